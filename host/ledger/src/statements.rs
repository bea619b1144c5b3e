//! Statements in one call each.
//!
//! Invariant: each text is prepared once per connection.

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Params, Result, Row};

/// Runs single statements on a connection.
pub(crate) trait Statements {
    /// Changes rows; returns how many.
    fn change(&self, sql: &str, values: impl Params) -> Result<usize>;

    /// The first column of a query's only row.
    fn value<T: FromSql>(&self, sql: &str, values: impl Params) -> Result<T>;

    /// The first row of a query, if there is any.
    fn row<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>>;

    /// All rows of a query.
    fn rows<T, C: FromIterator<T>>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<C>;
}

impl Statements for Connection {
    fn change(&self, sql: &str, values: impl Params) -> Result<usize> {
        self.prepare_cached(sql)?.execute(values)
    }

    fn value<T: FromSql>(&self, sql: &str, values: impl Params) -> Result<T> {
        let mut query = self.prepare_cached(sql)?;
        query.query_row(values, |row| row.get(0))
    }

    fn row<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut query = self.prepare_cached(sql)?;
        query.query_row(values, read).optional()
    }

    fn rows<T, C: FromIterator<T>>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<C> {
        self.prepare_cached(sql)?.query_map(values, read)?.collect()
    }
}
