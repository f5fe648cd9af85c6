import com.sun.tools.attach.VirtualMachine;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialAlteration;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Does for tests, from one JVM, what would else take a second's start of a command-line tool each.
 *
 * <p>Reads one command per line and answers each with one line, in whatever order they finish:
 * <pre>
 *   in:   NUMBER  COMMAND  NAME=VALUE  NAME=VALUE …      (between them a tab)
 *   out:  NUMBER  ok       FIELD       FIELD …      or   NUMBER  error  WHAT
 * </pre>
 * A field about a partition begins with TOPIC/PARTITION. Ends when its input does.
 */
public final class AdminShell {
    /** For clients that are not what is tested: a broker that was killed or halted costs seconds, not Java's half minutes. */
    private static final Map<String, String> IMPATIENT = Map.of(
        "request.timeout.ms", "3000",
        "socket.connection.setup.timeout.ms", "1000",
        "reconnect.backoff.max.ms", "200");

    private final String bootstrap;
    private final Admin admin;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new ConcurrentHashMap<>();
    private final Map<String, Member> members = new ConcurrentHashMap<>();

    public static void main(String[] arguments) throws IOException {
        AdminShell shell = new AdminShell(arguments[0]);
        ExecutorService threads = Executors.newCachedThreadPool();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Command command = new Command(line);
            threads.execute(() -> shell.answer(command));
        }
        // Not exit: nobody is left to wait for a member that leaves its group in order.
        Runtime.getRuntime().halt(0);
    }

    private AdminShell(String bootstrap) {
        this.bootstrap = bootstrap;
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.putAll(IMPATIENT);
        settings.put("default.api.timeout.ms", "10000");   // it can ask the halted broker again and again: then the test does better to
        admin = Admin.create(settings);
    }

    private void answer(Command command) {
        String answer;
        try {
            List<String> fields = run(command);
            answer = fields.stream().map(field -> "\t" + plain(field)).collect(Collectors.joining("", "ok", ""));
        } catch (Throwable error) {
            Throwable cause = error instanceof ExecutionException && error.getCause() != null ? error.getCause() : error;
            answer = "error\t" + plain(cause.toString());
        }
        synchronized (System.out) {
            System.out.println(command.number + "\t" + answer);
            System.out.flush();
        }
    }

    private List<String> run(Command command) throws Exception {
        switch (command.name) {
            case "create-topic": return createTopic(command);
            case "delete-topic": return deleteTopic(command);
            case "add-partitions": return addPartitions(command);
            case "describe-topic": return describeTopic(command);
            case "alter-config": return alterConfig(command);
            case "set-quota": return setQuota(command);
            case "list-offsets": return listOffsets(command);
            case "delete-records": return deleteRecords(command);
            case "deny": return deny(command);
            case "undeny": return undeny(command);
            case "set-password": return setPassword(command);
            case "reassign": return reassign(command);
            case "elect": return elect(command);
            case "committed": return committed(command);
            case "describe-group": return describeGroup(command);
            case "requests": return requests(command);
            case "request-bytes": return requestBytes(command);
            case "all-request-bytes": return allRequestBytes(command);
            case "bytes-out": return bytesOut(command);
            case "connections": return connections(command);
            case "alter-offset": return alterOffset(command);
            case "delete-offsets": return deleteOffsets(command);
            case "delete-group": return deleteGroup(command);
            case "produce": return produce(command);
            case "transaction": return transaction(command);
            case "end-transaction": return endTransaction(command);
            case "member-start": return startMember(command);
            case "member-status": return member(command).status();
            case "member-commit": return member(command).requestCommit();
            case "member-stop": return stopMember(command);
            default: throw new IllegalArgumentException("there is no command " + command.name);
        }
    }

    // ---- topics ----

    private List<String> createTopic(Command command) throws Exception {
        String replicas = command.get("replicas", "");
        NewTopic topic;
        if (replicas.isEmpty()) {
            topic = new NewTopic(command.get("topic"), command.number("partitions"), (short) command.number("replication"));
        } else {
            Map<Integer, List<Integer>> assignment = new TreeMap<>();
            for (String partition : replicas.split(";")) assignment.put(assignment.size(), brokers(partition));
            topic = new NewTopic(command.get("topic"), assignment);
        }
        admin.createTopics(List.of(topic.configs(command.all("config.")))).all().get();
        return List.of();
    }

    private List<String> deleteTopic(Command command) throws Exception {
        admin.deleteTopics(List.of(command.get("topic"))).all().get();
        return List.of();
    }

    private List<String> addPartitions(Command command) throws Exception {
        admin.createPartitions(Map.of(command.get("topic"), NewPartitions.increaseTo(command.number("total")))).all().get();
        return List.of();
    }

    /** One field per partition: topic/partition, leader (-1: none), replicas, those in sync. */
    private List<String> describeTopic(Command command) throws Exception {
        String topic = command.get("topic");
        List<String> fields = new ArrayList<>();
        for (TopicPartitionInfo info : admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()) {
            int leader = info.leader() == null ? -1 : info.leader().id();
            String replicas = info.replicas().stream().map(node -> "" + node.id()).collect(Collectors.joining(","));
            String inSync = info.isr().stream().map(node -> "" + node.id()).collect(Collectors.joining(","));
            fields.add(topic + "/" + info.partition() + "/" + leader + "/" + replicas + "/" + inSync);
        }
        return fields;
    }

    private List<String> alterConfig(Command command) throws Exception {
        ConfigResource.Type type = ConfigResource.Type.valueOf(command.get("type").toUpperCase());
        List<AlterConfigOp> changes = new ArrayList<>();
        command.all("config.").forEach((name, value) ->
            changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, command.get("name")), changes)).all().get();
        return List.of();
    }

    /** As kafka-configs --entity-type clients; without a value the quota is taken away. */
    private List<String> setQuota(Command command) throws Exception {
        ClientQuotaEntity client = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, command.get("client-id")));
        Double value = command.has("value") ? Double.valueOf(command.get("value")) : null;
        ClientQuotaAlteration.Op change = new ClientQuotaAlteration.Op(command.get("quota"), value);
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(client, List.of(change)))).all().get();
        return List.of();
    }

    /** One field per partition: topic/partition, offset. */
    private List<String> listOffsets(Command command) throws Exception {
        OffsetSpec spec = command.get("at").equals("earliest") ? OffsetSpec.earliest() : OffsetSpec.latest();
        String topic = command.get("topic");
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()
            .forEach(info -> wanted.put(new TopicPartition(topic, info.partition()), spec));
        List<String> fields = new ArrayList<>();
        admin.listOffsets(wanted).all().get().forEach((partition, found) -> fields.add(named(partition) + "/" + found.offset()));
        return fields;
    }

    private List<String> deleteRecords(Command command) throws Exception {
        admin.deleteRecords(Map.of(command.partition(), RecordsToDelete.beforeOffset(command.longNumber("before")))).all().get();
        return List.of();
    }

    /** Everybody may do everything with the topic or group, but this one operation. */
    private List<String> deny(Command command) throws Exception {
        ResourcePattern resource = new ResourcePattern(
            ResourceType.fromString(command.get("type")), command.get("name"), PatternType.LITERAL);
        AclOperation denied = AclOperation.fromString(command.get("operation"));
        admin.createAcls(List.of(
            new AclBinding(resource, new AccessControlEntry("User:*", "*", AclOperation.ALL, AclPermissionType.ALLOW)),
            new AclBinding(resource, new AccessControlEntry("User:*", "*", denied, AclPermissionType.DENY)))).all().get();
        return List.of();
    }

    private List<String> undeny(Command command) throws Exception {
        ResourcePatternFilter resource = new ResourcePatternFilter(
            ResourceType.fromString(command.get("type")), command.get("name"), PatternType.LITERAL);
        admin.deleteAcls(List.of(new AclBindingFilter(resource, AccessControlEntryFilter.ANY))).all().get();
        return List.of();
    }

    private List<String> setPassword(Command command) throws Exception {
        String user = command.get("user");
        // One after the other: brokers take one change of a user at a time.
        for (ScramMechanism mechanism : List.of(ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)) {
            UserScramCredentialAlteration alteration = command.has("password")
                ? new UserScramCredentialUpsertion(user, new ScramCredentialInfo(mechanism, 4096), command.get("password"))
                : new UserScramCredentialDeletion(user, mechanism);
            admin.alterUserScramCredentials(List.of(alteration)).all().get();
        }
        return List.of();
    }

    private List<String> reassign(Command command) throws Exception {
        NewPartitionReassignment wanted = new NewPartitionReassignment(brokers(command.get("replicas")));
        admin.alterPartitionReassignments(Map.of(command.partition(), Optional.of(wanted))).all().get();
        return List.of();
    }

    private List<String> elect(Command command) throws Exception {
        ElectionType type = ElectionType.valueOf(command.get("kind").toUpperCase());
        admin.electLeaders(type, Set.of(command.partition())).all().get();
        return List.of();
    }

    // ---- groups ----

    /** One field per partition: topic/partition, committed offset, lag. */
    private List<String> committed(Command command) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>(
            admin.listConsumerGroupOffsets(command.get("group")).partitionsToOffsetAndMetadata().get());
        offsets.values().removeIf(offset -> offset == null);
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        offsets.keySet().forEach(partition -> wanted.put(partition, OffsetSpec.latest()));
        var ends = admin.listOffsets(wanted).all().get();
        List<String> fields = new ArrayList<>();
        offsets.forEach((partition, offset) ->
            fields.add(named(partition) + "/" + offset.offset() + "/" + (ends.get(partition).offset() - offset.offset())));
        return fields;
    }

    /** Three fields: state, coordinator's id, assignor; then one per member: id|client id|instance id|partitions. */
    @SuppressWarnings("deprecation") // the newer way to ask for the state is not in the older clients
    private List<String> describeGroup(Command command) throws Exception {
        String name = command.get("group");
        ConsumerGroupDescription group = admin.describeConsumerGroups(List.of(name)).all().get().get(name);
        List<String> fields = new ArrayList<>();
        fields.add(group.state().toString());
        fields.add("" + group.coordinator().id());
        fields.add(group.partitionAssignor());
        for (MemberDescription member : group.members()) {
            fields.add(String.join("|", member.consumerId(), member.clientId(), member.groupInstanceId().orElse(""),
                named(member.assignment().topicPartitions())));
        }
        return fields;
    }

    /** One field: how many requests of a kind a broker of this machine has answered, by its own count. */
    private List<String> requests(Command command) throws Exception {
        return of(command, "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=" + command.get("kind") + ",*", "Count");
    }

    /** One field: how many bytes the middle one of the last requests of a kind has, to a broker of this machine. */
    private List<String> requestBytes(Command command) throws Exception {
        return of(command, "kafka.network:type=RequestMetrics,name=RequestBytes,request=" + command.get("kind"), "50thPercentile");
    }

    /** One field: how many bytes all requests of a kind had to a broker of this machine, by its own count. */
    private List<String> allRequestBytes(Command command) throws Exception {
        String pattern = "kafka.network:type=RequestMetrics,name=RequestBytes,request=" + command.get("kind");
        return List.of("" + Math.round(sum(command, pattern, "Count") * sum(command, pattern, "Mean")));
    }

    /** One field: how many bytes of a topic a broker of this machine has sent to consumers, by its own count. */
    private List<String> bytesOut(Command command) throws Exception {
        return of(command, "kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec,topic=" + command.get("topic"), "Count");
    }

    /** One field: how many connections a broker of this machine has accepted, by its own count. */
    private List<String> connections(Command command) throws Exception {
        return of(command, "kafka.server:type=socket-server-metrics,listener=*,networkProcessor=*", "connection-creation-total");
    }

    /** One field: the sum of an attribute of what a broker of this machine counts. */
    private List<String> of(Command command, String pattern, String attribute) throws Exception {
        return List.of("" + Math.round(sum(command, pattern, attribute)));
    }

    private double sum(Command command, String pattern, String attribute) throws Exception {
        VirtualMachine broker = VirtualMachine.attach(command.get("process"));
        try (JMXConnector connector = JMXConnectorFactory.connect(new JMXServiceURL(broker.startLocalManagementAgent()))) {
            MBeanServerConnection beans = connector.getMBeanServerConnection();
            double sum = 0;
            for (ObjectName name : beans.queryNames(new ObjectName(pattern), null)) {
                sum += ((Number) beans.getAttribute(name, attribute)).doubleValue();
            }
            return sum;
        } finally {
            broker.detach();
        }
    }

    private List<String> alterOffset(Command command) throws Exception {
        OffsetAndMetadata offset = new OffsetAndMetadata(command.longNumber("offset"));
        admin.alterConsumerGroupOffsets(command.get("group"), Map.of(command.partition(), offset)).all().get();
        return List.of();
    }

    private List<String> deleteOffsets(Command command) throws Exception {
        admin.deleteConsumerGroupOffsets(command.get("group"), Set.of(command.partition())).all().get();
        return List.of();
    }

    private List<String> deleteGroup(Command command) throws Exception {
        admin.deleteConsumerGroups(List.of(command.get("group"))).all().get();
        return List.of();
    }

    // ---- records ----

    /** Two fields: the first and the last offset. */
    private List<String> produce(Command command) throws Exception {
        Map<String, String> settings = new TreeMap<>(command.all("config."));
        settings.putIfAbsent("compression.type", command.get("codec", "none"));
        return send(producers.computeIfAbsent(settings.toString(), key -> producer(settings)), command);
    }

    /** As produce, in a transaction that is then committed, aborted, or left open. */
    private List<String> transaction(Command command) throws Exception {
        String id = command.get("id");
        KafkaProducer<byte[], byte[]> producer = producers.get("transaction " + id);
        if (producer == null) {
            Map<String, String> settings = new TreeMap<>(command.all("config."));
            settings.putIfAbsent("compression.type", command.get("codec", "none"));
            settings.put("transactional.id", id);
            producer = producer(settings);
            producer.initTransactions();
            producers.put("transaction " + id, producer);
        }
        if (!command.get("continue", "false").equals("true")) producer.beginTransaction();
        List<String> offsets = send(producer, command);
        finish(producer, command.get("outcome"));
        return offsets;
    }

    private List<String> endTransaction(Command command) {
        finish(producers.get("transaction " + command.get("id")), command.get("outcome"));
        return List.of();
    }

    private static void finish(KafkaProducer<byte[], byte[]> producer, String outcome) {
        if (outcome.equals("commit")) producer.commitTransaction();
        if (outcome.equals("abort")) producer.abortTransaction();
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, String> settings) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("acks", "all");
        all.put("linger.ms", "5");
        all.putAll(IMPATIENT);
        all.putAll(settings);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** Sends the records first, first+1, …: what each holds follows from its number, so that whoever reads it can check it. */
    private static List<String> send(KafkaProducer<byte[], byte[]> producer, Command command) throws Exception {
        String topic = command.get("topic");
        int partition = command.number("partition");
        long first = command.longNumber("first");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (long n = first; n < first + command.longNumber("count"); n++) {
            Long timestamp = command.has("timestamp") ? Long.valueOf(command.longNumber("timestamp") + n) : null;
            byte[] key = command.has("key") ? bytes(command.get("key") + n) : null;
            byte[] value = command.has("null-values") ? null : bytes(value(topic, partition, n, command.number("size")));
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, partition, timestamp, key, value);
            // Each is "HEADER=VALUE" under its number, for a header's name may come more than once.
            for (int at = 0; command.get("header." + at, null) != null; at++) {
                String[] header = command.get("header." + at).split("=", 2);
                record.headers().add(header[0], bytes(header[1]));
            }
            sent.add(producer.send(record));
        }
        producer.flush();
        if (sent.isEmpty()) return List.of("-1", "-1");
        for (Future<RecordMetadata> one : sent) one.get();
        return List.of("" + sent.get(0).get().offset(), "" + sent.get(sent.size() - 1).get().offset());
    }

    /** The value of record n: a test that reads it writes the same down on its side. */
    private static String value(String topic, int partition, long n, int size) {
        String text = topic + "-" + partition + "-" + n;
        return text + ".".repeat(Math.max(0, size - text.length()));
    }

    // ---- members of groups ----

    private List<String> startMember(Command command) {
        Member member = new Member(command);
        if (members.putIfAbsent(command.get("name"), member) != null) throw new IllegalArgumentException("there is such a member");
        member.start();
        return List.of();
    }

    private Member member(Command command) {
        Member member = members.get(command.get("name"));
        if (member == null) throw new IllegalArgumentException("there is no such member");
        return member;
    }

    /** Leaves the group in order, and tells the last status. */
    private List<String> stopMember(Command command) throws Exception {
        Member member = member(command);
        members.remove(command.get("name"));
        member.stopping = true;
        member.join();
        return member.status();
    }

    /** A Java consumer in a group, on a thread of its own. */
    private final class Member extends Thread implements ConsumerRebalanceListener {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Set<TopicPartition> assigned = ConcurrentHashMap.newKeySet();
        private final Map<TopicPartition, Seen> seen = new ConcurrentHashMap<>();
        private final List<String> topics;
        private volatile int rebalances;
        private volatile int commitsWanted;
        private volatile int commitsDone;
        private volatile String failure = "";
        private volatile boolean stopping;

        Member(Command command) {
            Properties settings = new Properties();
            settings.put("bootstrap.servers", bootstrap);
            settings.put("group.id", command.get("group"));
            settings.put("client.id", command.get("name"));
            settings.put("auto.offset.reset", "earliest");
            settings.put("auto.commit.interval.ms", "500");
            settings.put("heartbeat.interval.ms", "500");
            settings.put("partition.assignment.strategy", assignors(command.get("assignor")));
            settings.putAll(command.all("config."));
            if ("consumer".equals(settings.get("group.protocol"))) {   // these are then the broker's to decide
                settings.remove("heartbeat.interval.ms");
                settings.remove("partition.assignment.strategy");
            }
            topics = Arrays.asList(command.get("topics").split(","));
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            setName(command.get("name"));
        }

        private String assignors(String names) {
            return Arrays.stream(names.split(",")).map(name -> {
                switch (name) {
                    case "range": return "org.apache.kafka.clients.consumer.RangeAssignor";
                    case "roundrobin": return "org.apache.kafka.clients.consumer.RoundRobinAssignor";
                    case "sticky": return "org.apache.kafka.clients.consumer.StickyAssignor";
                    case "cooperative-sticky": return "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
                    default: return name;
                }
            }).collect(Collectors.joining(","));
        }

        @Override
        public void run() {
            try (consumer) {
                consumer.subscribe(topics, this);
                while (!stopping) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                        TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                        seen.computeIfAbsent(partition, key -> new Seen()).add(record.offset());
                    }
                    int wanted = commitsWanted;
                    if (commitsDone < wanted) {
                        consumer.commitSync();
                        commitsDone = wanted;
                    }
                }
            } catch (Throwable error) {
                failure = error.toString();
            }
            assigned.clear();
        }

        List<String> requestCommit() throws InterruptedException {
            int wanted;
            synchronized (this) {
                wanted = ++commitsWanted;
            }
            while (commitsDone < wanted && isAlive()) Thread.sleep(5);
            if (commitsDone < wanted) throw new IllegalStateException("the member ended: " + failure);
            return List.of();
        }

        /** Three fields: partitions held, how often they changed, why it ended; then one per partition read: topic/partition, offsets. */
        List<String> status() {
            List<String> fields = new ArrayList<>(List.of(named(assigned), "" + rebalances, failure));
            seen.forEach((partition, offsets) -> fields.add(named(partition) + "/" + offsets));
            return fields;
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            assigned.addAll(partitions);
            rebalances++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            assigned.removeAll(partitions);
        }
    }

    /** Offsets in the order they came, as runs: 0-99,105-120; an offset that came twice begins another run. */
    private static final class Seen {
        private final List<long[]> runs = new ArrayList<>();

        synchronized void add(long offset) {
            if (!runs.isEmpty() && runs.get(runs.size() - 1)[1] + 1 == offset) {
                runs.get(runs.size() - 1)[1] = offset;
            } else {
                runs.add(new long[] {offset, offset});
            }
        }

        @Override
        public synchronized String toString() {
            return runs.stream().map(run -> run[0] + "-" + run[1]).collect(Collectors.joining(","));
        }
    }

    // ---- words ----

    private static final class Command {
        final String number;
        final String name;
        private final Map<String, String> arguments = new LinkedHashMap<>();

        Command(String line) {
            String[] words = line.split("\t");
            number = words[0];
            name = words[1];
            for (int i = 2; i < words.length; i++) {
                int equals = words[i].indexOf('=');
                arguments.put(words[i].substring(0, equals), words[i].substring(equals + 1));
            }
        }

        boolean has(String argument) {
            return arguments.containsKey(argument);
        }

        String get(String argument) {
            String value = arguments.get(argument);
            if (value == null) throw new IllegalArgumentException(name + " wants " + argument + "=…");
            return value;
        }

        String get(String argument, String otherwise) {
            return arguments.getOrDefault(argument, otherwise);
        }

        int number(String argument) {
            return Integer.parseInt(get(argument));
        }

        long longNumber(String argument) {
            return Long.parseLong(get(argument));
        }

        TopicPartition partition() {
            return new TopicPartition(get("topic"), number("partition"));
        }

        /** All arguments whose names begin so, without that beginning. */
        Map<String, String> all(String beginning) {
            Map<String, String> found = new LinkedHashMap<>();
            arguments.forEach((argument, value) -> {
                if (argument.startsWith(beginning)) found.put(argument.substring(beginning.length()), value);
            });
            return found;
        }
    }

    private static String named(TopicPartition partition) {
        return partition.topic() + "/" + partition.partition();
    }

    private static String named(Collection<TopicPartition> partitions) {
        return partitions.stream().map(AdminShell::named).sorted().collect(Collectors.joining(","));
    }

    private static List<Integer> brokers(String ids) {
        return Arrays.stream(ids.split(",")).map(Integer::valueOf).collect(Collectors.toList());
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String plain(String field) {
        return field.replaceAll("[\t\r\n]+", " ");
    }
}
