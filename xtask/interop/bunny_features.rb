# frozen_string_literal: true

# Bunny, the client of Ruby, with what applications build on: any RabbitMQ passes it.

require_relative "checks"

# A channel of a connection of its own.
def channel
  connected { |connection| yield connection.create_channel, connection }
end

# Messages of a queue as they come: [delivery, properties, body].
def consume(queue, **options)
  inbox = Queue.new
  queue.subscribe(**options) { |*message| inbox << message }
  inbox
end

def take(inbox, count)
  Timeout.timeout(DEADLINE_S) { Array.new(count) { inbox.pop } }
end

def bodies(messages)
  messages.map(&:last)
end

def death_of(message)
  message[1].headers["x-death"].first.values_at("reason", "queue", "count")
end

def topics_and_properties
  channel do |opened|
    exchange = opened.topic(unique("topics"), auto_delete: true)
    queue = opened.queue("", exclusive: true).bind(exchange, routing_key: "a.#.z")
    exchange.publish("no", routing_key: "a.b")
    now = Time.at(1_700_000_000)
    exchange.publish("yes", routing_key: "a.b.c.z", content_type: "text/plain", priority: 2,
                            correlation_id: "c", message_id: "m", type: "t", app_id: "a",
                            timestamp: now.to_i, persistent: true, reply_to: "r",
                            headers: { "number" => 1, "list" => [1, "x"], "yes" => true,
                                       "float" => 1.5, "at" => now, "table" => { "deep" => "x" } })
    delivery, properties, body = take(consume(queue), 1).first
    expect("body", body, "yes")
    expect("key", delivery.routing_key, "a.b.c.z")
    expect("properties",
           properties.to_h.slice(:content_type, :priority, :correlation_id, :message_id, :type,
                                 :app_id, :reply_to, :delivery_mode, :timestamp),
           { content_type: "text/plain", priority: 2, correlation_id: "c", message_id: "m",
             type: "t", app_id: "a", reply_to: "r", delivery_mode: 2, timestamp: now })
    expect("headers", properties.headers,
           { "number" => 1, "list" => [1, "x"], "yes" => true, "float" => 1.5, "at" => now,
             "table" => { "deep" => "x" } })
  end
end

def transactions
  channel do |opened, connection|
    queue = opened.queue(unique("tx"), auto_delete: true)
    other = connection.create_channel
    count = -> { other.queue(queue.name, passive: true).message_count }
    opened.tx_select
    2.times { |number| opened.default_exchange.publish(number.to_s, routing_key: queue.name) }
    expect("before the commit", count.call, 0)
    opened.tx_commit
    expect("after the commit", count.call, 2)
    opened.default_exchange.publish("never", routing_key: queue.name)
    opened.tx_rollback
    opened.tx_commit
    expect("after the rollback", count.call, 2)
    delivery, = queue.pop(manual_ack: true)
    opened.ack(delivery.delivery_tag)
    opened.tx_commit
    expect("bodies", bodies(take(consume(queue), 1)), ["1"])
  end
end

def confirms_and_returns
  channel do |opened|
    opened.confirm_select
    queue = opened.queue("", exclusive: true)
    100.times { |number| opened.default_exchange.publish(number.to_s, routing_key: queue.name) }
    expect("confirmed", opened.wait_for_confirms, true)
    expect("in order", bodies(take(consume(queue), 100)), (0..99).map(&:to_s))
    exchange = opened.direct("amq.direct")
    returned = Queue.new
    exchange.on_return { |info, _, body| returned << [info.reply_code, info.reply_text, body] }
    exchange.publish("back", routing_key: unique("nowhere"), mandatory: true)
    expect("return", Timeout.timeout(DEADLINE_S) { returned.pop }, [312, "NO_ROUTE", "back"])
  end
end

def a_full_queue_nacks
  channel do |opened|
    opened.confirm_select
    queue = opened.queue("", exclusive: true, arguments: {
      "x-max-length" => 1, "x-overflow" => "reject-publish"
    })
    2.times { |number| opened.default_exchange.publish(number.to_s, routing_key: queue.name) }
    expect("all confirmed", opened.wait_for_confirms, false)
    expect("nacked", opened.nacked_set.to_a, [2])
  end
end

def dead_letters
  channel do |opened|
    graves = opened.queue("", exclusive: true)
    bury = { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => graves.name }
    inbox = consume(graves)
    queue = opened.queue("", exclusive: true, arguments: bury)
    queue.publish("bad")
    delivery, = take(consume(queue, manual_ack: true), 1).first
    opened.nack(delivery.delivery_tag, false, false)
    expect("rejected", death_of(take(inbox, 1).first), ["rejected", queue.name, 1])
    queue = opened.queue("", exclusive: true, arguments: bury.merge("x-message-ttl" => 40))
    queue.publish("late")
    expect("expired", death_of(take(inbox, 1).first), ["expired", queue.name, 1])
    queue = opened.queue("", exclusive: true, arguments: bury.merge("x-max-length" => 1))
    %w[old new].each { |body| queue.publish(body) }
    expect("maxlen", death_of(take(inbox, 1).first), ["maxlen", queue.name, 1])
  end
end

def priorities
  channel do |opened|
    queue = opened.queue("", exclusive: true, arguments: { "x-max-priority" => 4 })
    [0, 4, 2].each { |priority| queue.publish(priority.to_s, priority: priority) }
    queue.message_count
    expect("order", bodies(take(consume(queue), 3)), %w[4 2 0])
  end
end

def direct_reply_to
  channel do |server|
    channel do |client|
      queue = server.queue("", exclusive: true)
      queue.subscribe do |_, properties, body|
        server.default_exchange.publish(body.upcase, routing_key: properties.reply_to,
                                                     correlation_id: properties.correlation_id)
      end
      answers = consume(client.queue("amq.rabbitmq.reply-to", passive: true))
      client.default_exchange.publish("shout", routing_key: queue.name, correlation_id: "1",
                                               reply_to: "amq.rabbitmq.reply-to")
      _, properties, body = take(answers, 1).first
      expect("answer", [properties.correlation_id, body], %w[1 SHOUT])
    end
  end
end

def headers_exchange
  channel do |opened|
    exchange = opened.headers(unique("headers"), auto_delete: true)
    queue = opened.queue("", exclusive: true)
    queue.bind(exchange, arguments: { "os" => "linux", "cores" => 8, "x-match" => "all" })
    exchange.publish("no", headers: { "os" => "linux", "cores" => 4 })
    exchange.publish("yes", headers: { "os" => "linux", "cores" => 8, "more" => 1 })
    expect("matching", bodies(take(consume(queue), 1)), ["yes"])
  end
end

def exchange_bindings_and_alternate
  channel do |opened|
    side = opened.fanout(unique("side"), auto_delete: true)
    source = opened.direct(unique("source"), arguments: { "alternate-exchange" => side.name })
    target = opened.fanout(unique("target"), auto_delete: true)
    target.bind(source, routing_key: "k")
    bound = opened.queue("", exclusive: true).bind(target)
    rest = opened.queue("", exclusive: true).bind(side)
    source.publish("through", routing_key: "k")
    source.publish("aside", routing_key: "other")
    expect("bound", bodies(take(consume(bound), 1)), ["through"])
    expect("alternate", bodies(take(consume(rest), 1)), ["aside"])
    source.delete
  end
end

def acknowledgements_and_prefetch
  channel do |opened|
    opened.prefetch(2)
    queue = opened.queue("", exclusive: true)
    4.times { |number| queue.publish(number.to_s) }
    inbox = consume(queue, manual_ack: true)
    held = take(inbox, 2)
    sleep 0.1
    expect("no more than two", inbox.size, 0)
    opened.nack(held.last.first.delivery_tag, true, true)
    again = take(inbox, 2)
    expect("again", again.map { |delivery, _, body| [delivery.redelivered, body] },
           [[true, "0"], [true, "1"]])
    opened.ack(again.last.first.delivery_tag, true)
    expect("the rest", bodies(take(inbox, 2)), %w[2 3])
  end
end

def a_consumer_is_told_when_its_queue_goes
  channel do |opened, connection|
    queue = opened.queue(unique("gone"))
    told = Queue.new
    consumer = Bunny::Consumer.new(opened, queue)
    consumer.on_cancellation { |method| told << method.consumer_tag }
    queue.subscribe_with(consumer)
    connection.create_channel.queue_delete(queue.name)
    expect("tag", Timeout.timeout(DEADLINE_S) { told.pop }, consumer.consumer_tag)
  end
end

def quorum_queue_limits_deliveries
  channel do |opened|
    graves = opened.queue("", exclusive: true)
    queue = opened.queue(unique("quorum"), durable: true, arguments: {
      "x-queue-type" => "quorum", "x-delivery-limit" => 1, "x-dead-letter-exchange" => "",
      "x-dead-letter-routing-key" => graves.name
    })
    opened.confirm_select
    queue.publish("poison", persistent: true)
    opened.wait_for_confirms
    inbox = consume(queue, manual_ack: true)
    2.times { opened.reject(take(inbox, 1).first.first.delivery_tag, true) }
    expect("buried", death_of(take(consume(graves), 1).first), ["delivery_limit", queue.name, 1])
    queue.delete
  end
end

def stream_is_read_from_an_offset
  channel do |opened|
    opened.confirm_select
    queue = opened.queue(unique("stream"), durable: true,
                                           arguments: { "x-queue-type" => "stream" })
    5.times { |number| queue.publish(number.to_s) }
    opened.wait_for_confirms
    opened.prefetch(10)
    inbox = consume(queue, manual_ack: true, arguments: { "x-stream-offset" => 2 })
    got = take(inbox, 3).map { |_, properties, body| [properties.headers["x-stream-offset"], body] }
    expect("from the third", got, [[2, "2"], [3, "3"], [4, "4"]])
    queue.delete
  end
end

def errors_close_the_channel
  connected do |connection|
    name = unique("errors")
    connection.create_channel.queue(name, auto_delete: true, exclusive: true)
    {
      Bunny::NotFound => ->(opened) { opened.queue(unique("none"), passive: true) },
      Bunny::PreconditionFailed => ->(opened) { opened.queue(name, exclusive: true) },
      Bunny::AccessRefused => ->(opened) { opened.queue("amq.mine") },
      Bunny::ResourceLocked => lambda { |_|
        connected { |other| other.create_channel.queue(name, passive: true) }
      }
    }.each do |error, action|
      action.call(connection.create_channel)
      raise Mismatch, "no #{error}"
    rescue error
      next
    end
  end
end

run(%i[
  topics_and_properties
  transactions
  confirms_and_returns
  a_full_queue_nacks
  dead_letters
  priorities
  direct_reply_to
  headers_exchange
  exchange_bindings_and_alternate
  acknowledgements_and_prefetch
  a_consumer_is_told_when_its_queue_goes
  quorum_queue_limits_deliveries
  stream_is_read_from_an_offset
  errors_close_the_channel
])
