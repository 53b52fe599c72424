import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client with its default settings: idempotent, acks=all; consumers by assign().
 *
 * <pre>
 * Client roundtrip    BROKERS TOPIC CODEC CORPUS OUT   sends all.txt (line n to partition n mod P), reads it back into OUT/part-P.txt
 * Client live-produce BROKERS TOPIC DIR                sends numbered records until DIR/stop exists; DIR/acked gets "number partition offset"
 * Client live-consume BROKERS TOPIC DIR                reads until DIR/stop-consumer exists; DIR/consumed gets "partition offset number"
 * Client group        BROKERS TOPIC GROUP FILE         a member of the group, cooperative, until SIGTERM; FILE gets "partition offset"
 * </pre>
 */
public final class Client {
    private static final Duration POLL = Duration.ofMillis(500);
    /** A read that brings nothing for this long has failed. */
    private static final long STALL_MS = 60_000;

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "roundtrip" -> roundtrip(args[1], args[2], args[3], Path.of(args[4]), Path.of(args[5]));
            case "live-produce" -> liveProduce(args[1], args[2], Path.of(args[3]));
            case "live-consume" -> liveConsume(args[1], args[2], Path.of(args[3]));
            case "group" -> group(args[1], args[2], args[3], Path.of(args[4]));
            default -> throw new IllegalArgumentException("unknown command " + args[0]);
        }
    }

    private static KafkaProducer<byte[], byte[]> producer(String brokers, String codec) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("compression.type", codec);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String brokers) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("auto.offset.reset", "none");
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static List<TopicPartition> assignAll(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        List<TopicPartition> partitions = new ArrayList<>();
        consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        return partitions;
    }

    private static void roundtrip(String brokers, String topic, String codec, Path corpus, Path out) throws Exception {
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(brokers, codec);
                InputStream lines = new BufferedInputStream(new FileInputStream(corpus.resolve("all.txt").toFile()), 1 << 20)) {
            int partitions = producer.partitionsFor(topic).size();
            long number = 0;
            for (byte[] line = readLine(lines); line != null && failure.get() == null; line = readLine(lines)) {
                producer.send(new ProducerRecord<>(topic, (int) (number++ % partitions), null, line), (metadata, error) -> {
                    if (error != null) failure.compareAndSet(null, error);
                });
            }
            producer.flush();
        }
        if (failure.get() != null) throw failure.get();

        try (KafkaConsumer<byte[], byte[]> consumer = consumer(brokers)) {
            List<TopicPartition> partitions = assignAll(consumer, topic);
            Map<TopicPartition, Long> end = consumer.endOffsets(partitions);
            Map<Integer, OutputStream> files = new HashMap<>();
            for (TopicPartition p : partitions) {
                files.put(p.partition(), new BufferedOutputStream(
                    new FileOutputStream(out.resolve("part-" + p.partition() + ".txt").toFile()), 1 << 20));
            }
            long lastProgress = System.currentTimeMillis();
            while (partitions.stream().anyMatch(p -> consumer.position(p) < end.get(p))) {
                var records = consumer.poll(POLL);
                if (!records.isEmpty()) lastProgress = System.currentTimeMillis();
                if (System.currentTimeMillis() - lastProgress > STALL_MS) throw new IllegalStateException("the read brings nothing more");
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    OutputStream file = files.get(record.partition());
                    file.write(record.value());
                    file.write('\n');
                }
            }
            for (OutputStream file : files.values()) file.close();
        }
    }

    private static void liveProduce(String brokers, String topic, Path dir) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(brokers, "none");
                PrintStream acked = new PrintStream(new FileOutputStream(dir.resolve("acked").toFile()), true)) {
            int partitions = producer.partitionsFor(topic).size();
            for (long i = 0; !Files.exists(dir.resolve("stop")); i++) {
                long number = i;
                producer.send(new ProducerRecord<>(topic, (int) (number % partitions), null, Long.toString(number).getBytes(StandardCharsets.UTF_8)),
                    (metadata, error) -> {
                        if (error == null) acked.println(number + " " + metadata.partition() + " " + metadata.offset());
                        else System.err.println("record " + number + ": " + error);
                    });
                Thread.sleep(3);
            }
            producer.flush();
        }
    }

    private static void liveConsume(String brokers, String topic, Path dir) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(brokers);
                PrintStream consumed = new PrintStream(new FileOutputStream(dir.resolve("consumed").toFile()), true)) {
            assignAll(consumer, topic);
            while (!Files.exists(dir.resolve("stop-consumer"))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    consumed.println(record.partition() + " " + record.offset() + " " + new String(record.value(), StandardCharsets.UTF_8));
                }
            }
        }
    }

    private static void group(String brokers, String topic, String group, Path file) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("session.timeout.ms", "6000");
        settings.put("heartbeat.interval.ms", "1000");
        settings.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
                PrintStream consumed = new PrintStream(new FileOutputStream(file.toFile()), true)) {
            Thread main = Thread.currentThread();
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                consumer.wakeup();
                try {
                    main.join();
                } catch (InterruptedException ended) {
                    Thread.currentThread().interrupt();
                }
            }));
            consumer.subscribe(List.of(topic));
            while (true) {
                var records = consumer.poll(POLL);
                for (ConsumerRecord<byte[], byte[]> record : records) consumed.println(record.partition() + " " + record.offset());
                try {
                    if (!records.isEmpty()) consumer.commitSync();
                } catch (CommitFailedException | RebalanceInProgressException | TimeoutException rebalance) {
                    System.err.println("commit: " + rebalance); // what was read comes again
                }
            }
        } catch (WakeupException ended) {
            // SIGTERM
        }
    }

    /** The bytes up to the next line feed, or null at the end. BufferedReader would also split at a carriage return. */
    private static byte[] readLine(InputStream in) throws Exception {
        ByteArrayOutputStream line = new ByteArrayOutputStream(128);
        int b = in.read();
        if (b < 0) return null;
        for (; b >= 0 && b != '\n'; b = in.read()) line.write(b);
        return line.toByteArray();
    }
}
