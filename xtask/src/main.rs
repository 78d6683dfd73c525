//! Chores of Leveret's repository.
fn main() {}
