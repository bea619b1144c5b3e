//! `answers`: the number of rows left out of answers.

use crate::calls::CallContext;
use crate::contract::qchost::agent::answers::Host;

impl Host for CallContext {
    fn left_out(&mut self) -> u32 {
        self.take_left_out()
    }
}
