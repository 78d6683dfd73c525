//! Budgets of the hot path that do not depend on the machine: allocations and wake-ups per message,
//! bytes per connection. No test here looks at a clock.

mod bench;
mod publish;
