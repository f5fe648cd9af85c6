import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Reads a topic with Java's consumer and tells what it took: what benches/meter does for Rust. Called with NAME=VALUE arguments. */
public final class JavaClient {
    private static final Map<String, String> SETTINGS = Map.of(   // beside its defaults
        "auto.offset.reset", "earliest",
        "max.poll.records", "10000",
        "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
    private static final Duration POLL = Duration.ofMillis(500);
    /** How long an idle consumer may still have things to do, before the idle time is measured. */
    private static final Duration SETTLE = Duration.ofSeconds(2);

    /** Latencies count from so many seconds after the first record on. */
    private static final double STRIDE = 1;

    private final Map<String, String> task = new HashMap<>();
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final long wanted;
    private final boolean stamped;
    private final long[] latencies;
    private int counted;
    private long records;
    private long bytes;
    private Moment first;
    private Moment last;

    public static void main(String[] arguments) throws Exception {
        Thread guard = new Thread(() -> {   // it must not outlive whoever started it
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException error) {
                // No input is no master.
            }
            Runtime.getRuntime().halt(1);
        });
        guard.setDaemon(true);
        guard.start();
        new JavaClient(arguments).run();
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private JavaClient(String[] arguments) {
        for (String argument : arguments) {
            String[] pair = argument.split("=", 2);
            task.put(pair[0], pair[1]);
        }
        wanted = number("records");
        stamped = number("stamped") == 1;
        latencies = new long[stamped ? (int) wanted : 0];
        Properties properties = new Properties();
        properties.putAll(SETTINGS);
        properties.put("bootstrap.servers", task.get("bootstrap"));
        properties.put("group.id", task.get("group"));
        properties.put("auto.commit.interval.ms", task.get("commit_interval_ms"));
        consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void run() throws InterruptedException, IOException {
        consumer.subscribe(List.of(task.get("topic")));
        while (records < wanted) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) count(record);
        }
        Map<String, Double> numbers = new HashMap<>();
        if (number("idle_ms") > 0) {
            poll(SETTLE);
            Moment begins = new Moment();
            poll(Duration.ofMillis(number("idle_ms")));
            Moment ends = new Moment();
            numbers.put("idle_cpu_share", (ends.cpu - begins.cpu) / (ends.sinceStart - begins.sinceStart));
        }
        Thread.sleep(number("hold_ms"));
        long closes = System.nanoTime();
        consumer.close();
        numbers.put("close_s", (System.nanoTime() - closes) / 1e9);
        tell(numbers);
    }

    private void count(ConsumerRecord<byte[], byte[]> record) throws IOException {
        if (first == null) first = new Moment();
        bytes += record.value().length;
        if (stamped) {
            long sent = ByteBuffer.wrap(record.value()).getLong();
            if ((sent - number("started_ns")) / 1e9 >= first.sinceStart + STRIDE) latencies[counted++] = nowNanos() - sent;
        }
        if (++records == wanted) last = new Moment();
    }

    private void poll(Duration duration) {
        long end = System.nanoTime() + duration.toNanos();
        for (long left = duration.toNanos(); left > 0; left = end - System.nanoTime()) consumer.poll(Duration.ofNanos(left));
    }

    private void tell(Map<String, Double> numbers) throws IOException {
        numbers.put("records", (double) records);
        numbers.put("bytes", (double) bytes);
        numbers.put("start_s", first.sinceStart);
        numbers.put("start_cpu_s", first.cpu);
        numbers.put("read_s", last.sinceStart - first.sinceStart);
        numbers.put("cpu_s", last.cpu - first.cpu);
        numbers.put("peak_kib", statusKib("VmHWM"));
        numbers.put("rss_kib", statusKib("VmRSS"));
        if (counted > 0) {
            Arrays.sort(latencies, 0, counted);
            numbers.put("latency_p50_ms", latencies[counted * 50 / 100] / 1e6);
            numbers.put("latency_p99_ms", latencies[counted * 99 / 100] / 1e6);
        }
        String settings = "max.poll.records=10000, auto.commit.interval.ms=" + task.get("commit_interval_ms")
            + ", RangeAssignor; the JVM's defaults";
        StringBuilder line = new StringBuilder();
        line.append("{\"client\":\"java ").append(AppInfoParser.getVersion()).append("\",\"settings\":\"").append(settings).append('"');
        numbers.forEach((name, value) -> line.append(String.format(Locale.ROOT, ",\"%s\":%.9f", name, value)));
        System.out.println(line.append('}'));
    }

    private long number(String name) {
        return Long.parseLong(task.getOrDefault(name, "0"));
    }

    private static long nowNanos() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000L + now.getNano();
    }

    /** What the system knows about this process' memory. */
    private static double statusKib(String name) throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith(name + ":")) return Double.parseDouble(line.split("\\s+")[1]);
        }
        return 0;
    }

    /** What the clocks show. */
    private final class Moment {
        final double sinceStart = (nowNanos() - number("started_ns")) / 1e9;
        /** User and system time of this process, in ticks of 10 ms. */
        final double cpu;

        Moment() throws IOException {
            String stat = Files.readString(Path.of("/proc/self/stat"));
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            cpu = (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) / 100.0;
        }
    }
}
