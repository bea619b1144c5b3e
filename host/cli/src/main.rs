//! qchost
fn main() {}
