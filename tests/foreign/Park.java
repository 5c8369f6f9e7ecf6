import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.runtime.ConnectMetrics;
import org.apache.kafka.connect.runtime.SinkConnectorConfig;
import org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter;
import org.apache.kafka.connect.runtime.errors.ErrorHandlingMetrics;
import org.apache.kafka.connect.runtime.errors.ProcessingContext;
import org.apache.kafka.connect.runtime.errors.Stage;
import org.apache.kafka.connect.runtime.isolation.Plugins;
import org.apache.kafka.connect.runtime.standalone.StandaloneConfig;
import org.apache.kafka.connect.util.ConnectorTaskId;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.listener.MessageListener;
import org.springframework.util.backoff.FixedBackOff;

/**
 * Reads all records of a topic, fails at each, and parks them as Spring Kafka or Kafka Connect do:
 * by their own code.
 *
 * <p>Park spring|connect BOOTSTRAP SOURCE DEAD_LETTERS COUNT
 */
public final class Park {
  private static final String FORMAT = "org.apache.kafka.common.serialization.ByteArray";

  public static void main(String[] args) throws Exception {
    int count = Integer.parseInt(args[4]);
    if (args[0].equals("spring")) {
      spring(args[1], args[2], args[3], count);
    } else {
      connect(args[1], args[2], args[3], count);
    }
  }

  private static Map<String, Object> reading(String bootstrap) {
    return Map.of(
        "bootstrap.servers", bootstrap,
        "group.id", "foreign",
        "auto.offset.reset", "earliest");
  }

  private static void spring(String bootstrap, String source, String dead, int count)
      throws InterruptedException {
    var consumers =
        new DefaultKafkaConsumerFactory<byte[], byte[]>(
            reading(bootstrap), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    var producers =
        new DefaultKafkaProducerFactory<byte[], byte[]>(
            Map.of("bootstrap.servers", bootstrap),
            new ByteArraySerializer(),
            new ByteArraySerializer());
    var publisher =
        new DeadLetterPublishingRecoverer(
            new KafkaTemplate<>(producers), (record, error) -> new TopicPartition(dead, -1));
    var parked = new CountDownLatch(count);
    var settings = new ContainerProperties(source);
    settings.setMessageListener((MessageListener<byte[], byte[]>) Park::fail);
    var container = new KafkaMessageListenerContainer<byte[], byte[]>(consumers, settings);
    container.setCommonErrorHandler(
        new DefaultErrorHandler(
            (record, error) -> {
              publisher.accept(record, error);
              parked.countDown();
            },
            new FixedBackOff(0, 1)));
    container.start();
    boolean isDone = parked.await(60, TimeUnit.SECONDS);
    container.stop();
    producers.destroy();
    if (!isDone) {
      throw new IllegalStateException(parked.getCount() + " records were not parked");
    }
  }

  private static void fail(ConsumerRecord<byte[], byte[]> record) {
    throw new IllegalStateException("cannot ship " + text(record.value()) + " \u001b[2J");
  }

  private static void connect(String bootstrap, String source, String dead, int count)
      throws Exception {
    var plugins = new Plugins(Map.of());
    var id = new ConnectorTaskId("to-warehouse", 0);
    var sink =
        new SinkConnectorConfig(
            plugins,
            Map.of(
                "name", "to-warehouse",
                "connector.class", "org.apache.kafka.connect.sink.SinkConnector",
                "topics", source,
                "errors.deadletterqueue.topic.name", dead,
                "errors.deadletterqueue.context.headers.enable", "true"));
    var converter = "org.apache.kafka.connect.converters.ByteArrayConverter";
    var worker =
        new StandaloneConfig(
            Map.of(
                "bootstrap.servers", bootstrap,
                "key.converter", converter,
                "value.converter", converter,
                "offset.storage.file.filename", "/dev/null"));
    var metrics = new ConnectMetrics("worker", worker, Time.SYSTEM, "cluster");
    Map<String, Object> writing =
        Map.of(
            "bootstrap.servers", bootstrap,
            "key.serializer", FORMAT + "Serializer",
            "value.serializer", FORMAT + "Serializer");
    var reporter =
        DeadLetterQueueReporter.createAndSetup(
            Map.of("bootstrap.servers", bootstrap),
            id,
            sink,
            writing,
            new ErrorHandlingMetrics(id, metrics));
    try (var consumer =
        new KafkaConsumer<>(
            reading(bootstrap), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(List.of(source));
      for (int seen = 0; seen < count; ) {
        for (var record : consumer.poll(Duration.ofSeconds(1))) {
          var context = new ProcessingContext<>(record);
          context.currentContext(Stage.VALUE_CONVERTER, Park.class);
          context.error(new DataException("no schema for " + text(record.value())));
          reporter.report(context).get();
          seen++;
        }
      }
    }
    reporter.close();
    metrics.stop();
  }

  private static String text(byte[] raw) {
    return new String(raw, StandardCharsets.UTF_8);
  }
}
