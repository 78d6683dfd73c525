//! Control socket and commands of Leveret.
