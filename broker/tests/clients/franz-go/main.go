// franz-go with its usual settings, cooperative-sticky. Of the commands of live.py it knows `group`.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if len(os.Args) != 6 || os.Args[1] != "group" {
		fmt.Fprintln(os.Stderr, "usage: franz-go group BROKERS TOPIC GROUP FILE")
		os.Exit(2)
	}
	if err := group(os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, "franz-go:", err)
		os.Exit(1)
	}
}

func group(brokers, topic, name, path string) error {
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	consumed := bufio.NewWriter(file)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumerGroup(name),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(time.Second),
		kgo.DisableAutoCommit(),
		// A partition that is taken away between a poll and its commit would be committed behind its new owner's back.
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	for ended.Err() == nil {
		fetches := client.PollRecords(ended, 1000)
		fetches.EachError(func(topic string, partition int32, err error) {
			if ended.Err() == nil {
				fmt.Fprintln(os.Stderr, "fetch:", topic, partition, err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Fprintln(consumed, record.Partition, record.Offset)
		})
		if err := consumed.Flush(); err != nil {
			return err
		}
		if err := commit(client, fetches); err != nil {
			fmt.Fprintln(os.Stderr, "commit:", err) // a rebalance, or a broker that restarts: what was read comes again
		}
		client.AllowRebalance()
	}
	return nil
}

// What was read, and written down.
func commit(client *kgo.Client, fetches kgo.Fetches) error {
	if fetches.NumRecords() == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return client.CommitRecords(limited, fetches.Records()...)
}
