//! Resident bytes of idle clients, under the allocator of the binary: what the memory benchmark
//! counts, with the allocator's rounding and its pages. The argument is the same.

#[path = "memory/population.rs"]
mod population;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    population::report("resident bytes", |build| {
        let before = resident_bytes();
        build();
        resident_bytes() - before
    });
}

/// The resident set, which Linux tells in pages.
fn resident_bytes() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|field| field.parse().ok());
    let page_bytes = i64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    pages.unwrap_or(0) * page_bytes
}
