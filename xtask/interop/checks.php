<?php

// What the PHP scripts share: where the broker is, deadlines, comparisons, the runner.

declare(strict_types=1);

require_once 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

const DEADLINE_S = 15;

// The broker did something else than expected.
final class Mismatch extends Exception
{
}

function expect(string $what, mixed $got, mixed $want): void
{
    if ($got !== $want) {
        throw new Mismatch(
            "$what\n  expected: " . json_encode($want) . "\n  got:      " . json_encode($got)
        );
    }
}

function unique(string $prefix): string
{
    return $prefix . '-' . bin2hex(random_bytes(4));
}

function connect(): AMQPStreamConnection
{
    $port = (int) getenv('INTEROP_AMQP_PORT');
    return new AMQPStreamConnection('127.0.0.1', $port, 'guest', 'guest');
}

// Gives the body a channel of a connection of its own.
function channel(callable $body): void
{
    $connection = connect();
    try {
        $body($connection->channel(), $connection);
    } finally {
        try {
            $connection->close();
        } catch (Exception) {
            // The broker may have closed it: that was the check.
        }
    }
}

// An exclusive queue with a name of the server's.
function queue(AMQPChannel $channel, array $arguments = []): string
{
    $table = new AMQPTable($arguments);
    return $channel->queue_declare('', false, false, true, false, false, $table)[0];
}

// Exactly so many messages of a queue; those that are not acknowledged stay so.
function take(
    AMQPChannel $channel,
    string $queue,
    int $count,
    bool $noAck = true,
    array $arguments = []
): array {
    $taken = [];
    $table = new AMQPTable($arguments);
    $tag = $channel->basic_consume(
        $queue,
        '',
        false,
        $noAck,
        false,
        false,
        function (AMQPMessage $message) use (&$taken) {
            $taken[] = $message;
        },
        null,
        $table
    );
    while (count($taken) < $count) {
        $channel->wait(null, false, DEADLINE_S);
    }
    $channel->basic_cancel($tag);
    return $taken;
}

function bodies(array $messages): array
{
    return array_map(fn ($message) => $message->getBody(), $messages);
}

function headers(AMQPMessage $message): array
{
    return $message->has('application_headers')
        ? $message->get('application_headers')->getNativeData() : [];
}

// Runs all checks and ends the process: 0 when they held, 1 when one failed.
function run(array $checks): never
{
    global $argv;
    $wanted = array_slice($argv, 1);
    $failed = 0;
    foreach ($checks as $check) {
        if ($wanted !== [] && !in_array($check, $wanted, true)) {
            continue;
        }
        try {
            $check();
            echo 'ok: ', strtolower(preg_replace('/([A-Z])/', ' $1', $check)), "\n";
        } catch (Throwable $error) {
            echo "FAIL: $check: ", get_class($error), ': ', $error->getMessage(), "\n";
            if (!$error instanceof Mismatch) {
                echo $error->getTraceAsString(), "\n";
            }
            $failed++;
        }
    }
    exit($failed === 0 ? 0 : 1);
}
