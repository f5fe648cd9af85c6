// Command franz-go reads a topic with franz-go and tells what it took: what benches/meter does for Rust. Called with NAME=VALUE arguments.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What franz-go does by default is meant for throughput; but a broker waits as long for it here as for the others, and its group is theirs.
const settings = "FetchMaxPartitionBytes=1MiB, FetchMaxBytes=50MiB, AutoCommitInterval=%s (its defaults), FetchMaxWait=500ms, RangeBalancer"

// How long an idle consumer may still have things to do before the idle time is measured.
const settle = 2 * time.Second

// Latencies count from so long after the first record on.
const stride = time.Second

func main() {
	// It must not outlive whoever started it.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	task := arguments()
	meter := meter{wanted: task.number("records"), started: time.Unix(0, int64(task.number("started_ns"))), stamped: task.number("stamped") == 1}
	interval := task.duration("commit_interval_ms")
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(task["bootstrap"], ",")...),
		kgo.ConsumerGroup(task["group"]),
		kgo.ConsumeTopics(task["topic"]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.FetchMaxPartitionBytes(1<<20),
		kgo.FetchMaxBytes(50<<20),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.AutoCommitInterval(interval),
	)
	if err != nil {
		return err
	}
	for meter.records < meter.wanted {
		fetches := client.PollFetches(context.Background())
		if err := fetches.Err0(); err != nil {
			return err
		}
		fetches.EachRecord(meter.record)
	}
	report := map[string]any{}
	if idle := task.duration("idle_ms"); idle > 0 {
		wait(client, settle)
		begins := now(meter.started)
		wait(client, idle)
		ends := now(meter.started)
		report["idle_cpu_share"] = (ends.cpu - begins.cpu).Seconds() / (ends.sinceStart - begins.sinceStart).Seconds()
	}
	time.Sleep(task.duration("hold_ms"))
	closes := time.Now()
	if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
		return err
	}
	client.Close()
	report["close_s"] = time.Since(closes).Seconds()
	report["client"], report["settings"] = "franz-go "+version(), fmt.Sprintf(settings, interval)
	meter.tell(report)
	return json.NewEncoder(os.Stdout).Encode(report)
}

func wait(client *kgo.Client, duration time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	for ctx.Err() == nil {
		client.PollFetches(ctx)
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				return module.Version
			}
		}
	}
	return "?"
}

type task map[string]string

func arguments() task {
	task := task{}
	for _, argument := range os.Args[1:] {
		if name, value, found := strings.Cut(argument, "="); found {
			task[name] = value
		}
	}
	return task
}

func (t task) number(name string) int {
	number, _ := strconv.Atoi(t[name])
	return number
}

func (t task) duration(name string) time.Duration {
	return time.Duration(t.number(name)) * time.Millisecond
}

// moment is what the clocks show.
type moment struct {
	sinceStart time.Duration
	cpu        time.Duration // user and system time of this process
}

func now(started time.Time) moment {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return moment{time.Since(started), time.Duration(usage.Utime.Nano() + usage.Stime.Nano())}
}

// meter counts records and bytes; its clocks run from the first record to the last.
type meter struct {
	wanted      int
	started     time.Time
	stamped     bool
	records     int
	bytes       int
	first, last moment
	latencies   []time.Duration
}

func (m *meter) record(record *kgo.Record) {
	if m.records == 0 {
		m.first = now(m.started)
	}
	m.records++
	m.bytes += len(record.Value)
	if m.stamped {
		sent := time.Unix(0, int64(binary.BigEndian.Uint64(record.Value)))
		if sent.Sub(m.started) >= m.first.sinceStart+stride {
			m.latencies = append(m.latencies, time.Since(sent))
		}
	}
	if m.records == m.wanted {
		m.last = now(m.started)
	}
}

func (m *meter) tell(report map[string]any) {
	report["records"], report["bytes"] = m.records, m.bytes
	report["start_s"], report["start_cpu_s"] = m.first.sinceStart.Seconds(), m.first.cpu.Seconds()
	report["read_s"], report["cpu_s"] = (m.last.sinceStart - m.first.sinceStart).Seconds(), (m.last.cpu - m.first.cpu).Seconds()
	report["peak_kib"], report["rss_kib"] = statusKib("VmHWM"), statusKib("VmRSS")
	if len(m.latencies) > 0 {
		sort.Slice(m.latencies, func(a, b int) bool { return m.latencies[a] < m.latencies[b] })
		report["latency_p50_ms"] = m.latencies[len(m.latencies)*50/100].Seconds() * 1e3
		report["latency_p99_ms"] = m.latencies[len(m.latencies)*99/100].Seconds() * 1e3
	}
}

// statusKib is what the system knows about this process' memory.
func statusKib(name string) int {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name+":" {
			kib, _ := strconv.Atoi(fields[1])
			return kib
		}
	}
	return 0
}
