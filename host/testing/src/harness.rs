//! Test programs with a `main` of their own, which start themselves again as the process that they kill.

/// Answers cargo-nextest, which asks every test program for its tests before it runs them: such a program is one test.
/// Returns whether that was asked, in which case the program ends.
#[must_use]
pub fn is_listing(test: &str) -> bool {
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    let listing = asked("--list");
    if listing && !asked("--ignored") {
        println!("{test}: test");
    }
    listing
}
