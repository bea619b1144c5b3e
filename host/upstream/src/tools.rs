//! The tools that a server lists.
//!
//! Invariant: reading a list ends. It is limited to [`MAX_TOOLS`] tools, [`MAX_PAGES`] pages and
//! [`MAX_BYTES`], each page that refers to another one must bring a new tool, and no cursor may repeat. A
//! server that violates one of these has no usable list, and is not asked again at once.

use std::collections::{HashMap, HashSet};

use rmcp::model::{ListToolsResult, PaginatedRequestParams};
use rmcp::service::{Peer, RoleClient, ServiceError};

use crate::shape::Input;

/// Maximum tools of one server. QuantConnect's have 64 and 48.
const MAX_TOOLS: usize = 4_096;

/// Maximum pages of one list.
const MAX_PAGES: usize = 256;

/// Maximum bytes of one list, as JSON.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Maximum bytes of a cursor, which is sent back with each request.
const MAX_CURSOR: usize = 4 * 1024;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The server did not answer with a list.
    #[error(transparent)]
    Request(#[from] ServiceError),
    /// The list does not end, or is larger than any list of tools.
    #[error("the server's list of tools does not end: {0}")]
    Endless(String),
}

/// The part of a list read so far.
#[derive(Default)]
struct PartialList {
    tools: HashMap<String, Input>,
    cursors: HashSet<String>,
    pages: usize,
    bytes: usize,
}

/// Reads the whole list.
pub(crate) async fn list(peer: &Peer<RoleClient>) -> Result<HashMap<String, Input>, ListError> {
    let mut listed = PartialList::default();
    let mut cursor = None;
    loop {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(params)).await?;
        cursor = listed.take(page).map_err(ListError::Endless)?;
        if cursor.is_none() {
            return Ok(listed.tools);
        }
    }
}

impl PartialList {
    /// Adds a page, and returns the cursor of the next one.
    fn take(&mut self, page: ListToolsResult) -> Result<Option<String>, String> {
        self.pages += 1;
        self.bytes = self.bytes.saturating_add(size(&page));
        if self.bytes > MAX_BYTES {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
        let before = self.tools.len();
        for tool in page.tools {
            let input = Input::of(&tool.input_schema);
            self.tools.insert(tool.name.into_owned(), input);
        }
        if self.tools.len() > MAX_TOOLS {
            return Err(format!("it has more than {MAX_TOOLS} tools"));
        }
        // Some servers send an empty cursor on the last page.
        let Some(cursor) = page.next_cursor.filter(|cursor| !cursor.is_empty()) else {
            return Ok(None);
        };
        if self.tools.len() == before {
            return Err(format!(
                "page {} brings no further tool, and names another page",
                self.pages
            ));
        }
        if self.pages >= MAX_PAGES {
            return Err(format!("it has more than {MAX_PAGES} pages"));
        }
        if cursor.len() > MAX_CURSOR {
            return Err(format!("a cursor has more than {MAX_CURSOR} bytes"));
        }
        if !self.cursors.insert(cursor.clone()) {
            return Err(format!("page {} has a cursor that came before", self.pages));
        }
        Ok(Some(cursor))
    }
}

/// The size of a page as JSON.
fn size(page: &ListToolsResult) -> usize {
    serde_json::to_vec(page).map_or(usize::MAX, |bytes| bytes.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rmcp::model::Tool;
    use std::sync::Arc;

    fn page(names: &[&str], cursor: Option<&str>) -> ListToolsResult {
        let tools = names
            .iter()
            .map(|name| Tool::new((*name).to_owned(), "", Arc::default()));
        let mut page = ListToolsResult::with_all_items(tools.collect());
        page.next_cursor = cursor.map(str::to_owned);
        page
    }

    #[test]
    fn a_list_of_pages_is_read_and_an_empty_cursor_ends_it() {
        let mut listed = PartialList::default();
        assert_eq!(
            listed.take(page(&["a"], Some("2"))),
            Ok(Some("2".to_owned()))
        );
        assert_eq!(listed.take(page(&["b"], Some(""))), Ok(None));
        assert_eq!(listed.tools.len(), 2);
        assert_eq!(PartialList::default().take(page(&[], None)), Ok(None));
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut listed = PartialList::default();
        listed.take(page(&["a"], Some("2"))).unwrap();
        // No further tool.
        listed.take(page(&["a"], Some("3"))).unwrap_err();
        listed.take(page(&[], Some("4"))).unwrap_err();
        // A repeated cursor, and one that grows.
        listed.take(page(&["b"], Some("2"))).unwrap_err();
        let long = "x".repeat(MAX_CURSOR + 1);
        listed.take(page(&["c"], Some(&long))).unwrap_err();
    }

    #[test]
    fn a_list_has_most_pages_tools_and_bytes() {
        let mut listed = PartialList::default();
        for number in 1..MAX_PAGES {
            let name = number.to_string();
            listed.take(page(&[&name], Some(&name))).unwrap();
        }
        listed.take(page(&["last"], Some("last"))).unwrap_err();

        let names: Vec<String> = (0..=MAX_TOOLS).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        PartialList::default().take(page(&names, None)).unwrap_err();

        let mut large = page(&["a"], None);
        large.tools[0].description = Some("x".repeat(MAX_BYTES).into());
        PartialList::default().take(large).unwrap_err();
    }
}
