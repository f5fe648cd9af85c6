// Command franz is a member of a group on franz-go: franz BOOTSTRAP GROUP TOPIC
//
// It prints what changes, one line each, and leaves the group in order when its input ends:
//
//	assigned TOPIC/PARTITION,TOPIC/PARTITION    all that it holds now
//	seen TOPIC/PARTITION FIRST-LAST,FIRST-LAST  the offsets read so far, in their order, as runs
//	left
//
// With a fourth argument, a transactional id, it writes ten records to partition 0 of the topic instead, aborts, writes ten more,
// commits, and prints "wrote".
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("failed", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 4 {
		return write(args[0], args[2], args[3])
	}
	return consume(args[0], args[1], args[2])
}

func write(bootstrap, topic, id string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.TransactionalID(id),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, outcome := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		for i := 0; i < 10; i++ {
			record := &kgo.Record{Topic: topic, Value: []byte(fmt.Sprintf("%v-%d", outcome, i))}
			if err := client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
				return err
			}
		}
		if err := client.EndTransaction(context.Background(), outcome); err != nil {
			return err
		}
	}
	fmt.Println("wrote")
	return nil
}

func consume(bootstrap, group, topic string) error {
	var mutex sync.Mutex
	held := map[string]bool{}
	change := func(partitions map[string][]int32, isHeld bool) {
		mutex.Lock()
		defer mutex.Unlock()
		for topic, numbers := range partitions {
			for _, number := range numbers {
				held[fmt.Sprintf("%s/%d", topic, number)] = isHeld
			}
		}
		var all []string
		for partition, isHeld := range held {
			if isHeld {
				all = append(all, partition)
			}
		}
		sort.Strings(all)
		fmt.Println("assigned", strings.Join(all, ","))
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.AutoCommitInterval(300*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { change(partitions, true) }),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			_ = client.CommitUncommittedOffsets(ctx)
			change(partitions, false)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { change(partitions, false) }),
	)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	seen := map[string][]string{}
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachPartition(func(of kgo.FetchTopicPartition) {
			if len(of.Records) > 0 {
				first, last := of.Records[0].Offset, of.Records[len(of.Records)-1].Offset
				partition := fmt.Sprintf("%s/%d", of.Topic, of.Partition)
				seen[partition] = append(seen[partition], fmt.Sprintf("%d-%d", first, last))
				fmt.Println("seen", partition, strings.Join(seen[partition], ","))
			}
		})
	}
	if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
		return err
	}
	client.Close()
	fmt.Println("left")
	return nil
}
