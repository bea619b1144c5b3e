//! What is read from a module, and what is refused with which words.

use quote::quote;

use super::*;

fn errors(arguments: TokenStream, module: TokenStream) -> Vec<String> {
    match agent(arguments, module) {
        Ok(_) => Vec::new(),
        Err(error) => error.into_iter().map(|it| it.to_string()).collect(),
    }
}

fn error_in(content: TokenStream) -> String {
    let errors = errors(quote!(), quote!(/** For tests. */ mod agent { #content }));
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.concat()
}

#[test]
fn a_module_is_read_into_actions_and_handlers() {
    let agent = agent(
        quote!(name = "lab"),
        quote! {
            /// For tests.
            mod agent {
                /// Run.
                #[action(read_only)]
                #[allow(dead_code)]
                fn run_all(input: Input) -> Result<Output, Failure> { loop {} }
                /// Rest.
                #[action]
                fn r#yield() -> Result<Output, Failure> { loop {} }
                #[on("a", "b")]
                fn heard(event: Event) -> Result<(), Failure> { loop {} }
                fn helper(first: u8, second: u8) {}
            }
        },
    );
    let Ok(agent) = agent else {
        panic!("a good module is refused");
    };
    let names: Vec<String> = agent.actions.iter().map(|it| it.name.value()).collect();
    assert_eq!(names, ["run-all", "yield"]);
    assert!(agent.actions[0].hints.read_only && agent.actions[0].input.is_some());
    assert!(!agent.actions[1].hints.read_only && agent.actions[1].input.is_none());
    assert_eq!(agent.handlers[0].kinds.len(), 2);
    let rest = quote::ToTokens::to_token_stream(&agent.module).to_string();
    assert!(!rest.contains("action"), "{rest}");
    assert!(
        rest.contains("dead_code") && rest.contains("helper"),
        "{rest}"
    );
}

#[test]
fn what_is_not_a_module_is_refused() {
    for item in [
        quote!(
            fn agent() {}
        ),
        quote!(
            struct Agent;
        ),
    ] {
        let errors = errors(quote!(), item);
        assert_eq!(errors, ["`#[agent]` goes on a module: `mod agent { … }`"]);
    }
    let empty = errors(
        quote!(),
        quote!(
            /** For tests. */
            mod agent;
        ),
    );
    assert_eq!(
        empty,
        ["`#[agent]` needs the module's content here: `mod agent { … }`"]
    );
}

#[test]
fn names_and_arguments_are_checked() {
    let action = quote!(
        /** Run. */
        #[action]
        fn run() -> Result<(), Failure> {}
    );
    let module = quote!(/** For tests. */ mod agent { #action });
    assert_eq!(
        errors(quote!(name = "My Lab"), module.clone()),
        ["\"My Lab\" is not a name: 1 to 64 of a-z, 0-9 and -"]
    );
    assert_eq!(
        errors(quote!(name = 7), module.clone()),
        ["expected a text: `\"…\"`"]
    );
    assert_eq!(
        errors(quote!(config = "Settings"), module.clone()),
        ["expected the name of a type"]
    );
    assert!(errors(quote!(config = settings::Settings), module.clone()).is_empty());
    assert_eq!(
        errors(quote!(title = "lab"), module),
        ["`#[agent]` takes `name = \"…\"`, `version = \"…\"` and `config = Type`"]
    );
    assert!(
        error_in(quote!(
            /** Run. */
            #[action(fast)]
            fn run() -> Result<(), Failure> {}
        ))
        .starts_with("`#[action]` takes `read_only`")
    );
    assert!(
        error_in(quote!(
            /** Run. */
            #[action]
            fn Run() -> Result<(), Failure> {}
        ))
        .starts_with("\"Run\" is not a name")
    );
}

#[test]
fn what_cannot_be_an_action_is_refused_with_the_reason() {
    for (function, reason) in [
        (
            quote!(
                fn run() -> Result<(), Failure> {}
            ),
            "say what the action does",
        ),
        (
            quote!(
                /** Run. */
                fn run() {}
            ),
            "return `Result",
        ),
        (
            quote!(
                /** Run. */
                async fn run() -> Result<(), Failure> {}
            ),
            "are not `async`",
        ),
        (
            quote!(
                /** Run. */
                fn run<T>(input: T) -> Result<(), Failure> {}
            ),
            "are not generic",
        ),
        (
            quote!(
                /** Run. */
                fn run(a: A, b: B) -> Result<(), Failure> {}
            ),
            "one argument",
        ),
        (
            quote!(
                /** Run. */
                fn run(&self) -> Result<(), Failure> {}
            ),
            "one argument",
        ),
    ] {
        let error = error_in(quote!(#[action] #function));
        assert!(error.contains(reason), "{error}");
    }
    let both = quote!(
        /** Run. */
        #[action(read_only, destructive)]
        fn run() -> Result<(), Failure> {}
    );
    assert!(error_in(both).contains("destroys nothing"));
}

#[test]
fn what_cannot_be_a_handler_is_refused_with_the_reason() {
    for mark in [quote!(on), quote!(on()), quote!(on(backtest))] {
        let error = error_in(quote!(#[#mark] fn heard(event: Event) -> Result<(), Failure> {}));
        assert!(error.starts_with("say which events"), "{error}");
    }
    let error = error_in(quote!(
        #[on("a")]
        fn heard() -> Result<(), Failure> {}
    ));
    assert_eq!(error, "a handler takes one argument, the event");
}

#[test]
fn all_errors_are_reported_at_once() {
    let errors = errors(
        quote!(),
        quote! {
            mod agent {
                /// Run.
                #[action]
                fn run() -> Result<(), Failure> {}
                /// Run again.
                #[action(name = "run")]
                fn again() -> Result<(), Failure> {}
                #[on("a", "a")]
                fn heard(event: Event) -> Result<(), Failure> {}
                /// Twice marked.
                #[action]
                #[on("b")]
                fn both(event: Event) -> Result<(), Failure> {}
            }
        },
    );
    let expected = [
        "say what the agent is for",
        "a function is one action or one handler",
        "a second action \"run\"",
        "a second handler for \"a\"",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn an_agent_that_does_nothing_is_refused() {
    assert!(
        error_in(quote!(
            fn helper() {}
        ))
        .starts_with("this agent does nothing")
    );
}
