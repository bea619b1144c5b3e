//! A configuration that changes under a host that runs: what it bars from serving does not serve on.

use crate::guests::{marked, version};
use crate::running::{Running, edit, plugin};
use crate::socket::Answer;

/// The same as at a start: see `in_production_a_plugin_that_may_trade_is_pinned`.
#[test]
fn a_switch_to_production_ends_what_may_trade_and_is_not_pinned() {
    const TRADE: &str = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\n\
                         projects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";
    let me = rustix::process::geteuid().as_raw();
    let lines =
        format!("mode = \"development\"\npeople.me = {{ uid = {me}, roles = [\"admin\"] }}");
    let running = Running::start(&lines, |folder| {
        plugin(folder, "trader", &marked(1, "trader"), TRADE);
        plugin(folder, "pinned", &marked(2, "pinned"), TRADE);
        plugin(folder, "other", &version(3), "");
    });
    let rows = running.control.plugins();
    let row = rows.iter().find(|row| row["plugin"] == "pinned").unwrap();
    let pin = format!("digest = {}\naccount", row["digest"]);
    edit(&running.path("plugins/pinned.toml"), "account", &pin);
    running.reload().good();
    running.is_version("trader", 1);
    running.configure("\"development\"", "\"production\"");
    let why = running.until_status("trader", "broken");
    assert!(
        why.contains("trader.toml: digest: ") && why.contains("`live/create-live-algorithm`"),
        "{why}"
    );
    let gone = running.act("trader");
    assert!(
        matches!(&gone, Answer::Failed(why) if why.contains("digest")),
        "{gone:?}"
    );
    // The twins: pinned, or without the trade.
    running.is_version("pinned", 2);
    running.is_version("other", 3);
    running.end();
}
