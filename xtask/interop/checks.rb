# frozen_string_literal: true

# What the Ruby scripts share: where the broker is, deadlines, comparisons, the runner.

require "bunny"
require "securerandom"
require "timeout"

DEADLINE_S = 15

# A client's thread that ends with its connection is a check's failure, which tells it shorter.
Thread.report_on_exception = false

# The broker did something else than expected.
class Mismatch < StandardError; end

def expect(what, got, want)
  raise Mismatch, "#{what}\n  expected: #{want.inspect}\n  got:      #{got.inspect}" if got != want
end

def unique(prefix)
  "#{prefix}-#{SecureRandom.hex(4)}"
end

# A connection as guest, closed after the block. Only its own failures end its threads.
def connected
  connection = Bunny.new(
    host: "127.0.0.1", port: Integer(ENV.fetch("INTEROP_AMQP_PORT")), user: "guest",
    pass: "guest", automatically_recover: false, log_level: Logger::FATAL,
    continuation_timeout: DEADLINE_S * 1000
  )
  connection.start
  yield connection
ensure
  connection&.close if connection&.open?
end

# Runs all checks and ends the process: 0 when they held, 1 when one failed.
def run(checks)
  wanted = ARGV
  failed = 0
  checks.each do |check|
    next unless wanted.empty? || wanted.include?(check.to_s)

    begin
      Timeout.timeout(4 * DEADLINE_S) { send(check) }
      puts "ok: #{check.to_s.tr('_', ' ')}"
    rescue StandardError => e
      puts "FAIL: #{check}: #{e.class}: #{e.message}"
      puts e.backtrace.grep(/interop/).first(3) unless e.is_a?(Mismatch)
      failed += 1
    end
    $stdout.flush
  end
  exit!(failed.zero? ? 0 : 1)
end
