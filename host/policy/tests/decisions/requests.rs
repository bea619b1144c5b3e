//! Outgoing HTTP requests.

use qchost_policy::{Facts, Resource};

use crate::rows::{allowed, check, denied, http};

#[test]
fn requests_go_where_a_prefix_says() {
    let manifest = r#"
[[http]]
allow   = "https://hooks.example.com/qc/"
methods = ["POST"]

[[http]]
name  = "local"
allow = "http://127.0.0.1:8080/api"

[[http]]
name  = "all-hooks"
allow = "https://hooks.example.com"
methods = ["GET"]
"#;
    let call = "http/request";
    check(
        manifest,
        &[],
        &[
            allowed(call, http("POST", "https", "hooks.example.com", 443, "/qc/alert"), &["hooks-example-com-qc"]),
            allowed(call, http("POST", "https", "hooks.example.com", 443, "/qc/"), &["hooks-example-com-qc"]),
            allowed(call, http("GET", "https", "hooks.example.com", 443, "/qc/alert"), &["all-hooks"]),
            denied(
                call,
                http("DELETE", "https", "hooks.example.com", 443, "/qc/alert"),
                "no [[http]] of `plugin` covers DELETE https://hooks.example.com/qc/alert; `hooks-example-com-qc` covers POST of",
            ),
            denied(call, http("POST", "https", "hooks.example.com", 443, "/other"), "no [[http]] of `plugin` covers POST"),
            denied(call, http("POST", "https", "hooks.example.com", 443, "/qc"), "no [[http]]"),
            denied(call, http("POST", "http", "hooks.example.com", 80, "/qc/alert"), "no [[http]]"),
            denied(call, http("POST", "https", "hooks.example.com", 8443, "/qc/alert"), "covers POST https://hooks.example.com:8443/qc/alert"),
            denied(call, http("POST", "https", "evil.example.com", 443, "/qc/alert"), "no [[http]]"),
            denied(call, http("POST", "https", "hooks.example.com.evil.com", 443, "/qc/"), "no [[http]]"),
            denied(call, http("post", "https", "hooks.example.com", 443, "/qc/alert"), "no [[http]]"),
            denied(call, http("POST", "https", "hooks.example.com", 443, "/qc/../admin"), "a segment of dots"),
            denied(call, http("POST", "https", "hooks.example.com", 443, "/qc/%2e%2E/admin"), "a segment of dots"),
            denied(call, http("POST", "https", "hooks.example.com", 443, "/qc/%252e%252e%252fadmin"), "a segment of dots"),
            denied(call, http("POST", "https", "hooks.example.com", 443, "/qc/..\\admin"), "a segment of dots"),
            allowed(call, http("POST", "https", "hooks.example.com", 443, "/qc/a..b/..."), &["hooks-example-com-qc"]),
            allowed(call, http("GET", "http", "127.0.0.1", 8080, "/api"), &["local"]),
            allowed(call, http("POST", "http", "127.0.0.1", 8080, "/api/v2"), &["local"]),
            denied(call, http("GET", "http", "127.0.0.1", 8080, "/apiary"), "no [[http]]"),
            denied(call, http("PUT", "http", "127.0.0.1", 8080, "/api/v2"), "no [[http]]"),
            denied(call, Facts::of(Resource::Account), "cannot be decided on the account"),
        ],
    );
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"*\"]\n",
        &[],
        &[denied(call, http("GET", "https", "example.com", 443, "/"), "no [[http]] of `plugin` covers GET")],
    );
}
