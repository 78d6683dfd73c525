//! Round trips of every packet in every version, every cut of each, and seeded noise.
