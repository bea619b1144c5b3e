//! `answers`: the number of rows left out of answers.

use crate::calls::Calls;
use crate::contract::qchost::agent::answers::Host;

impl Host for Calls {
    fn left_out(&mut self) -> u32 {
        self.take_left_out()
    }
}
