//! Heap bytes of idle clients, as they are requested from the allocator, without the machine in
//! between. The argument is how many MQTT connections to hold; a tenth of it for everything else.

#[path = "memory/population.rs"]
mod population;

fn main() {
    population::report("heap bytes", |build| {
        allocation_counter::measure(build).bytes_current
    });
}
