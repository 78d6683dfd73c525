<?php

// php-amqplib, the client of PHP, with what applications build on: any RabbitMQ passes it.

declare(strict_types=1);

require __DIR__ . '/checks.php';

use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

function message(string $body, array $properties = [], array $headers = []): AMQPMessage
{
    if ($headers !== []) {
        $properties['application_headers'] = new AMQPTable($headers);
    }
    return new AMQPMessage($body, $properties);
}

function death(AMQPMessage $message): array
{
    $death = headers($message)['x-death'][0];
    return [$message->getBody(), $death['reason'], $death['queue'], $death['count']];
}

function topicsAndProperties(): void
{
    channel(function ($channel) {
        $exchange = unique('topics');
        $channel->exchange_declare($exchange, 'topic');
        $queue = queue($channel);
        $channel->queue_bind($queue, $exchange, '*.error');
        $properties = [
            'content_type' => 'text/plain', 'delivery_mode' => 2, 'priority' => 4,
            'correlation_id' => 'c', 'reply_to' => 'r', 'message_id' => 'm',
            'timestamp' => 1700000000, 'type' => 't', 'app_id' => 'a',
        ];
        $headers = ['text' => 'é', 'number' => -7, 'yes' => true, 'list' => [1, 'x'],
            'table' => ['deep' => null]];
        $channel->basic_publish(message('no'), $exchange, 'disk.info');
        $channel->basic_publish(message('yes', $properties, $headers), $exchange, 'disk.error');
        [$message] = take($channel, $queue, 1);
        $got = $message->get_properties();
        unset($got['application_headers']);
        ksort($got);
        ksort($properties);
        expect('body', $message->getBody(), 'yes');
        expect('key', $message->getRoutingKey(), 'disk.error');
        expect('properties', $got, $properties);
        expect('headers', headers($message), $headers);
        $channel->exchange_delete($exchange);
    });
}

function transactions(): void
{
    channel(function ($channel, $connection) {
        $queue = queue($channel);
        $other = $connection->channel();
        $count = fn () => $other->queue_declare($queue, true)[1];
        $channel->tx_select();
        $channel->basic_publish(message('one'), '', $queue);
        $channel->basic_publish(message('two'), '', $queue);
        expect('before the commit', $count(), 0);
        $channel->tx_commit();
        expect('after the commit', $count(), 2);
        $channel->basic_publish(message('never'), '', $queue);
        $channel->tx_rollback();
        $channel->tx_commit();
        expect('after the rollback', $count(), 2);
        $channel->basic_ack($channel->basic_get($queue)->getDeliveryTag());
        $channel->tx_commit();
        expect('what is left', bodies(take($channel, $queue, 1)), ['two']);
    });
}

function confirmsAndReturns(): void
{
    channel(function ($channel) {
        $seen = [];
        $note = function (string $what) use (&$seen) {
            return function ($message) use (&$seen, $what) {
                $seen[] = $what . ' ' . $message->getBody();
            };
        };
        $channel->set_ack_handler($note('ack'));
        $channel->set_nack_handler($note('nack'));
        $channel->set_return_listener(function ($code, $text, $exchange, $key) use (&$seen) {
            $seen[] = "return $code $text";
        });
        $channel->confirm_select();
        $queue = queue($channel, ['x-max-length' => 1, 'x-overflow' => 'reject-publish']);
        foreach (['1', '2'] as $body) {
            $channel->basic_publish(message($body), '', $queue);
            $channel->wait_for_pending_acks(DEADLINE_S);
        }
        $channel->basic_publish(message('3'), '', unique('nowhere'), true);
        $channel->wait_for_pending_acks_returns(DEADLINE_S);
        expect('answers', $seen, ['ack 1', 'nack 2', 'return 312 NO_ROUTE', 'ack 3']);
    });
}

function batches(): void
{
    channel(function ($channel) {
        $queue = queue($channel);
        for ($number = 0; $number < 50; $number++) {
            $channel->batch_basic_publish(message((string) $number), '', $queue);
        }
        $channel->publish_batch();
        expect('order', bodies(take($channel, $queue, 50)), array_map('strval', range(0, 49)));
    });
}

function deadLetters(): void
{
    channel(function ($channel) {
        $graves = queue($channel);
        $bury = ['x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $graves];
        $queue = queue($channel, $bury);
        $channel->basic_publish(message('bad'), '', $queue);
        take($channel, $queue, 1, false)[0]->nack(false);
        expect('rejected', death(take($channel, $graves, 1)[0]), ['bad', 'rejected', $queue, 1]);
        $late = queue($channel, $bury + ['x-message-ttl' => 40]);
        $channel->basic_publish(message('late'), '', $late);
        expect('expired', death(take($channel, $graves, 1)[0]), ['late', 'expired', $late, 1]);
        $short = queue($channel, $bury + ['x-max-length' => 1]);
        $channel->basic_publish(message('old'), '', $short);
        $channel->basic_publish(message('new'), '', $short);
        expect('maxlen', death(take($channel, $graves, 1)[0]), ['old', 'maxlen', $short, 1]);
    });
}

function priorities(): void
{
    channel(function ($channel) {
        $queue = queue($channel, ['x-max-priority' => 3]);
        foreach ([1, 3, 2] as $priority) {
            $channel->basic_publish(
                message((string) $priority, ['priority' => $priority]),
                '',
                $queue
            );
        }
        $channel->queue_declare($queue, true);
        expect('order', bodies(take($channel, $queue, 3)), ['3', '2', '1']);
    });
}

function directReplyTo(): void
{
    channel(fn ($server) => channel(function ($client) use ($server) {
        $queue = queue($server);
        $answers = [];
        $client->basic_consume(
            'amq.rabbitmq.reply-to',
            '',
            false,
            true,
            false,
            false,
            function ($message) use (&$answers) {
                $answers[] = [$message->get('correlation_id'), $message->getBody()];
            }
        );
        $client->basic_publish(
            message('question', ['reply_to' => 'amq.rabbitmq.reply-to', 'correlation_id' => '7']),
            '',
            $queue
        );
        [$request] = take($server, $queue, 1);
        $server->basic_publish(
            message('answer', ['correlation_id' => $request->get('correlation_id')]),
            '',
            $request->get('reply_to')
        );
        $client->wait(null, false, DEADLINE_S);
        expect('answer', $answers, [['7', 'answer']]);
    }));
}

function headersExchange(): void
{
    channel(function ($channel) {
        $queue = queue($channel);
        $table = new AMQPTable(['x-match' => 'all', 'os' => 'linux', 'cores' => 8]);
        $channel->queue_bind($queue, 'amq.headers', '', false, $table);
        foreach (['no' => 4, 'yes' => 8] as $body => $cores) {
            $channel->basic_publish(
                message($body, [], ['os' => 'linux', 'cores' => $cores]),
                'amq.headers'
            );
        }
        expect('matching', bodies(take($channel, $queue, 1)), ['yes']);
    });
}

function exchangeBindingsAndAlternate(): void
{
    channel(function ($channel) {
        [$side, $source, $target] = [unique('side'), unique('source'), unique('target')];
        $channel->exchange_declare($side, 'fanout');
        $alternate = new AMQPTable(['alternate-exchange' => $side]);
        $channel->exchange_declare($source, 'direct', false, false, true, false, false, $alternate);
        $channel->exchange_declare($target, 'fanout');
        $channel->exchange_bind($target, $source, 'k');
        [$bound, $rest] = [queue($channel), queue($channel)];
        $channel->queue_bind($bound, $target);
        $channel->queue_bind($rest, $side);
        $channel->basic_publish(message('through'), $source, 'k');
        $channel->basic_publish(message('aside'), $source, 'other');
        expect('bound', bodies(take($channel, $bound, 1)), ['through']);
        expect('alternate', bodies(take($channel, $rest, 1)), ['aside']);
    });
}

function acknowledgementsAndPrefetch(): void
{
    channel(function ($channel, $connection) {
        $queue = queue($channel);
        foreach (['1', '2', '3'] as $body) {
            $channel->basic_publish(message($body), '', $queue);
        }
        $reader = $connection->channel();
        $reader->basic_qos(0, 2, false);
        $held = take($reader, $queue, 2, false);
        expect('left', $channel->queue_declare($queue, true)[1], 1);
        $held[1]->nack(true, true);
        $reader->basic_qos(0, 0, false);
        $again = take($reader, $queue, 3, false);
        $flags = array_map(fn ($message) => $message->isRedelivered(), $again);
        expect('again', bodies($again), ['1', '2', '3']);
        expect('redelivered', $flags, [true, true, false]);
        $again[2]->ack(true);
        $reader->close();
        expect('empty', $channel->queue_declare($queue, true)[1], 0);
    });
}

function quorumQueueLimitsDeliveries(): void
{
    channel(function ($channel) {
        [$graves, $queue] = [queue($channel), unique('quorum')];
        $channel->confirm_select();
        $channel->queue_declare($queue, false, true, false, false, false, new AMQPTable([
            'x-queue-type' => 'quorum', 'x-delivery-limit' => 1,
            'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $graves,
        ]));
        $channel->basic_publish(message('poison', ['delivery_mode' => 2]), '', $queue);
        $channel->wait_for_pending_acks(DEADLINE_S);
        take($channel, $queue, 1, false)[0]->reject(true);
        [$second] = take($channel, $queue, 1, false);
        expect('count', headers($second)['x-delivery-count'], 1);
        $second->reject(true);
        expect('buried', death(take($channel, $graves, 1)[0]),
            ['poison', 'delivery_limit', $queue, 1]);
        $channel->queue_delete($queue);
    });
}

function streamIsReadFromAnOffset(): void
{
    channel(function ($channel) {
        $queue = unique('stream');
        $channel->confirm_select();
        $table = new AMQPTable(['x-queue-type' => 'stream']);
        $channel->queue_declare($queue, false, true, false, false, false, $table);
        for ($number = 0; $number < 4; $number++) {
            $channel->basic_publish(message((string) $number), '', $queue);
        }
        $channel->wait_for_pending_acks(DEADLINE_S);
        $channel->basic_qos(0, 10, false);
        $taken = take($channel, $queue, 3, false, ['x-stream-offset' => 1]);
        $offsets = array_map(fn ($message) => headers($message)['x-stream-offset'], $taken);
        expect('bodies', bodies($taken), ['1', '2', '3']);
        expect('offsets', $offsets, [1, 2, 3]);
        $channel->queue_delete($queue);
    });
}

function errorsCloseTheChannel(): void
{
    channel(function ($channel, $connection) {
        $named = unique('errors');
        $channel->queue_declare($named, false, false, true, true);
        $cases = [
            [404, fn ($own) => $own->queue_declare(unique('none'), true)],
            [406, fn ($own) => $own->queue_declare($named, false, false, true, false)],
            [403, fn ($own) => $own->queue_declare('amq.mine')],
            [406, fn ($own) => $own->exchange_declare('amq.topic', 'fanout', false, true, false)],
            [404, fn ($own) => $own->basic_consume(unique('none'))],
        ];
        foreach ($cases as $number => [$code, $action]) {
            try {
                $action($connection->channel());
            } catch (AMQPProtocolChannelException $closed) {
                expect("case $number", $closed->amqp_reply_code, $code);
                continue;
            }
            throw new Mismatch("case $number: the channel stayed open");
        }
    });
}

run([
    'topicsAndProperties',
    'transactions',
    'confirmsAndReturns',
    'batches',
    'deadLetters',
    'priorities',
    'directReplyTo',
    'headersExchange',
    'exchangeBindingsAndAlternate',
    'acknowledgementsAndPrefetch',
    'quorumQueueLimitsDeliveries',
    'streamIsReadFromAnOffset',
    'errorsCloseTheChannel',
]);
