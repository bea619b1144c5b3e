//! Writes the `Guest` of an agent: the match from names to functions, and its export.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::Result;
use syn::spanned::Spanned as _;

use crate::parse::{self, Action, Agent, Handler, Hints};

/// The module with the type `Agent` added to it.
pub(crate) fn agent(arguments: TokenStream, module: TokenStream) -> Result<TokenStream> {
    let mut agent = parse::agent(arguments, module)?;
    let guest = guest(&agent);
    if let Some((_, items)) = &mut agent.module.content {
        items.push(syn::Item::Verbatim(guest));
    }
    let module = agent.module;
    Ok(quote!(#module))
}

fn guest(agent: &Agent) -> TokenStream {
    let Agent {
        name,
        version,
        summary,
        config,
        actions,
        handlers,
        ..
    } = agent;
    let name = match name {
        Some(name) => quote!(#name),
        None => quote!(::core::env!("CARGO_PKG_NAME")),
    };
    let version = match version {
        Some(version) => quote!(#version),
        None => quote!(::core::env!("CARGO_PKG_VERSION")),
    };
    let config_schema = match config {
        // The span makes a type that lacks a trait be named where it is written.
        Some(settings) => quote_spanned! {settings.span()=>
            ::core::option::Option::Some(::qchost_sdk::dispatch::settings::<#settings>())
        },
        None => quote!(::core::option::Option::None),
    };
    let descriptions = actions.iter().map(description);
    let invocations = actions.iter().map(invocation);
    let deliveries = handlers.iter().map(delivery);
    let names = actions.iter().map(|it| &it.name);
    let kinds = handlers.iter().flat_map(|it| &it.kinds);
    quote! {
        /// The agent that this module describes.
        pub struct Agent;

        impl ::qchost_sdk::Guest for Agent {
            fn describe() -> ::qchost_sdk::Description {
                ::qchost_sdk::Description {
                    name: #name.into(),
                    version: #version.into(),
                    summary: #summary.into(),
                    actions: ::std::vec![#(#descriptions),*],
                    config_schema: #config_schema,
                }
            }

            fn invoke(
                action: ::std::string::String,
                input: ::std::string::String,
            ) -> ::core::result::Result<::std::string::String, ::qchost_sdk::Failure> {
                match action.as_str() {
                    #(#invocations,)*
                    other => ::core::result::Result::Err(
                        ::qchost_sdk::dispatch::unsupported("action", other, &[#(#names),*]),
                    ),
                }
            }

            fn handle(
                event: ::qchost_sdk::Event,
            ) -> ::core::result::Result<(), ::qchost_sdk::Failure> {
                match event.kind.as_str() {
                    #(#deliveries,)*
                    other => ::core::result::Result::Err(
                        ::qchost_sdk::dispatch::unsupported("handler for", other, &[#(#kinds),*]),
                    ),
                }
            }
        }

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            ::qchost_sdk::bindings::export!(Agent with_types_in ::qchost_sdk::bindings);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = ::qchost_sdk::dispatch::used::<Agent>;
    }
}

/// What the SDK's functions take: the action itself, or a closure that drops the empty input.
fn function(action: &Action) -> TokenStream {
    let function = &action.function;
    match &action.input {
        // The span makes an input type that lacks a trait be named where it is written.
        Some(input) => quote_spanned!(input.span()=> #function as fn(#input) -> _),
        None => quote!(|_: ::qchost_sdk::dispatch::Nothing| #function()),
    }
}

fn description(action: &Action) -> TokenStream {
    let Action {
        name,
        description,
        hints,
        ..
    } = action;
    let Hints {
        read_only,
        destructive,
        idempotent,
    } = hints;
    let function = function(action);
    quote! {
        ::qchost_sdk::dispatch::describe(
            #name,
            #description,
            ::qchost_sdk::Hints {
                read_only: #read_only,
                destructive: #destructive,
                idempotent: #idempotent,
            },
            #function,
        )
    }
}

fn invocation(action: &Action) -> TokenStream {
    let name = &action.name;
    let function = function(action);
    quote!(#name => ::qchost_sdk::dispatch::run(&input, #function))
}

fn delivery(handler: &Handler) -> TokenStream {
    let Handler { function, kinds } = handler;
    quote!(#(#kinds)|* => ::qchost_sdk::dispatch::deliver(event, #function))
}
