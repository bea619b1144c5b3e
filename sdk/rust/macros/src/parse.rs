//! Reads a module into the agent that it describes.
//!
//! Invariant: whatever would make a bad agent is an error here, at the place in the source
//! where it is wrong; all errors of a module are reported at once.

use proc_macro2::TokenStream;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, Ident, Item, ItemFn, ItemMod, Lit, LitStr, Meta,
    Result, ReturnType, Token, Type, TypePath,
};

/// An agent, as a module says it is.
pub(crate) struct Agent {
    pub(crate) module: ItemMod,
    /// Nothing: the crate's.
    pub(crate) name: Option<LitStr>,
    /// Nothing: the crate's.
    pub(crate) version: Option<LitStr>,
    pub(crate) summary: String,
    /// The type of its settings, if it has some.
    pub(crate) config: Option<Type>,
    pub(crate) actions: Vec<Action>,
    pub(crate) handlers: Vec<Handler>,
}

/// A function that can be invoked.
pub(crate) struct Action {
    pub(crate) function: Ident,
    pub(crate) name: LitStr,
    pub(crate) description: String,
    pub(crate) hints: Hints,
    /// The type of its argument, if it has one.
    pub(crate) input: Option<Type>,
}

#[derive(Default)]
pub(crate) struct Hints {
    pub(crate) read_only: bool,
    pub(crate) destructive: bool,
    pub(crate) idempotent: bool,
}

/// A function that hears of events.
pub(crate) struct Handler {
    pub(crate) function: Ident,
    pub(crate) kinds: Vec<LitStr>,
}

/// Errors of a module, gathered.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }
}

/// Reads the arguments of `#[agent]` and the module under it, whose inner attributes are taken off.
pub(crate) fn agent(arguments: TokenStream, module: TokenStream) -> Result<Agent> {
    let mut module: ItemMod = syn::parse2(module).map_err(|error| {
        Error::new(
            error.span(),
            "`#[agent]` goes on a module: `mod agent { … }`",
        )
    })?;
    let mut errors = Errors::default();
    let (mut name, mut version, mut config) = (None, None, None);
    for meta in Punctuated::<Meta, Token![,]>::parse_terminated.parse2(arguments)? {
        if meta.path().is_ident("name") {
            name = errors.take(text(&meta).and_then(checked));
        } else if meta.path().is_ident("version") {
            version = errors.take(text(&meta));
        } else if meta.path().is_ident("config") {
            config = errors.take(path_type(&meta));
        } else {
            errors.add(Error::new(
                meta.span(),
                "`#[agent]` takes `name = \"…\"`, `version = \"…\"` and `config = Type`",
            ));
        }
    }
    let summary = first_paragraph(&documentation(&module.attrs));
    if summary.is_empty() {
        errors.add(Error::new(
            module.ident.span(),
            "say what the agent is for, in a doc comment on the module: it becomes its summary",
        ));
    }
    let Some((_, items)) = &mut module.content else {
        return Err(Error::new(
            module.span(),
            "`#[agent]` needs the module's content here: `mod agent { … }`",
        ));
    };
    let (mut actions, mut handlers) = (Vec::new(), Vec::new());
    for item in items.iter_mut() {
        let Item::Fn(function) = item else { continue };
        let marks: Vec<Attribute> = function.attrs.extract_if(.., |it| is_mark(it)).collect();
        match marks.as_slice() {
            [] => {}
            [mark] if mark.path().is_ident("action") => {
                actions.extend(errors.take(action(mark, function)));
            }
            [mark] => handlers.extend(errors.take(handler(mark, function))),
            [_, second, ..] => errors.add(Error::new(
                second.span(),
                "a function is one action or one handler; write a second function",
            )),
        }
    }
    if actions.is_empty() && handlers.is_empty() && errors.0.is_none() {
        errors.add(Error::new(
            module.ident.span(),
            "this agent does nothing: mark a function with `#[action]` or `#[on(\"event\")]`",
        ));
    }
    unique(actions.iter().map(|it| &it.name), "action", &mut errors);
    unique(
        handlers.iter().flat_map(|it| &it.kinds),
        "handler for",
        &mut errors,
    );
    match errors.0 {
        Some(error) => Err(error),
        None => Ok(Agent {
            module,
            name,
            version,
            summary,
            config,
            actions,
            handlers,
        }),
    }
}

fn is_mark(attribute: &Attribute) -> bool {
    attribute.path().is_ident("action") || attribute.path().is_ident("on")
}

fn action(mark: &Attribute, function: &ItemFn) -> Result<Action> {
    let mut hints = Hints::default();
    let mut name = None;
    let arguments = match &mark.meta {
        Meta::Path(_) => Punctuated::new(),
        meta => meta
            .require_list()?
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?,
    };
    for meta in &arguments {
        match meta {
            Meta::Path(path) if path.is_ident("read_only") => hints.read_only = true,
            Meta::Path(path) if path.is_ident("destructive") => hints.destructive = true,
            Meta::Path(path) if path.is_ident("idempotent") => hints.idempotent = true,
            Meta::NameValue(pair) if pair.path.is_ident("name") => name = Some(text(meta)?),
            other => {
                return Err(Error::new(
                    other.span(),
                    "`#[action]` takes `read_only`, `destructive`, `idempotent` and `name = \"…\"`",
                ));
            }
        }
    }
    if hints.read_only && hints.destructive {
        return Err(Error::new(
            mark.span(),
            "an action that is read only destroys nothing",
        ));
    }
    let input = signature(function, "an action takes one argument, its input, or none")?;
    let function_name = &function.sig.ident;
    let description = documentation(&function.attrs);
    if description.is_empty() {
        return Err(Error::new(
            function_name.span(),
            "say what the action does, in a doc comment: it becomes the action's description",
        ));
    }
    let kebab = || {
        function_name
            .to_string()
            .trim_start_matches("r#")
            .replace('_', "-")
    };
    let name = name.unwrap_or_else(|| LitStr::new(&kebab(), function_name.span()));
    Ok(Action {
        function: function_name.clone(),
        name: checked(name)?,
        description,
        hints,
        input,
    })
}

fn handler(mark: &Attribute, function: &ItemFn) -> Result<Handler> {
    let kinds = mark
        .parse_args_with(Punctuated::<LitStr, Token![,]>::parse_terminated)
        .ok()
        .filter(|kinds| !kinds.is_empty())
        .ok_or_else(|| {
            Error::new(
                mark.span(),
                "say which events: `#[on(\"backtest-finished\")]`",
            )
        })?;
    let message = "a handler takes one argument, the event";
    if signature(function, message)?.is_none() {
        return Err(Error::new(function.sig.ident.span(), message));
    }
    Ok(Handler {
        function: function.sig.ident.clone(),
        kinds: kinds.into_iter().collect(),
    })
}

/// Checks what actions and handlers have in common; returns the type of the argument.
fn signature(function: &ItemFn, arguments: &str) -> Result<Option<Type>> {
    let signature = &function.sig;
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new(
            keyword.span(),
            "functions of an agent are not `async`: the host runs one invocation an instance, and `workflow` runs calls side by side",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(
            signature.generics.span(),
            "functions of an agent are not generic: their types make the schema",
        ));
    }
    if matches!(signature.output, ReturnType::Default) {
        return Err(Error::new(
            signature.ident.span(),
            "functions of an agent return `Result<…, Failure>`",
        ));
    }
    let mut inputs = signature.inputs.iter();
    match (inputs.next(), inputs.next()) {
        (None, _) => Ok(None),
        (Some(FnArg::Typed(argument)), None) => Ok(Some((*argument.ty).clone())),
        (_, Some(second)) => Err(Error::new(second.span(), arguments)),
        (Some(other), None) => Err(Error::new(other.span(), arguments)),
    }
}

/// The text of `name = "…"`.
fn text(meta: &Meta) -> Result<LitStr> {
    match &meta.require_name_value()?.value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Ok(text.clone()),
        other => Err(Error::new(other.span(), "expected a text: `\"…\"`")),
    }
}

/// The type of `config = Type`.
fn path_type(meta: &Meta) -> Result<Type> {
    match &meta.require_name_value()?.value {
        Expr::Path(found) => Ok(Type::Path(TypePath {
            attrs: found.attrs.clone(),
            qself: found.qself.clone(),
            path: found.path.clone(),
        })),
        other => Err(Error::new(other.span(), "expected the name of a type")),
    }
}

/// A name as the contract allows it.
fn checked(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    let allowed = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
        return Err(Error::new(
            name.span(),
            format!("\"{text}\" is not a name: 1 to 64 of a-z, 0-9 and -"),
        ));
    }
    Ok(name)
}

fn unique<'a>(names: impl Iterator<Item = &'a LitStr>, what: &str, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name.value()) {
            errors.add(Error::new(
                name.span(),
                format!("a second {what} \"{}\"", name.value()),
            ));
        }
    }
}

/// The doc comment, without the space that follows each `///`.
fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
    let lines: Vec<String> = lines
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n").trim().to_owned()
}

fn first_paragraph(text: &str) -> String {
    let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests;
