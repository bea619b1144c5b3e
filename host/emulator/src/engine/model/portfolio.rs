//! Cash, positions and closed trades of one run.
//!
//! Invariant: value is conserved. After any fills, cash is the starting cash less purchases
//! plus sales less fees, and the shares of a position are the sum of its
//! lots.

use std::collections::VecDeque;

/// An open purchase (or short sale) at one price.
#[derive(Debug, Clone)]
struct Lot {
    /// Negative for a short one.
    quantity: f64,
    price: f64,
    fee_per_share: f64,
    day: usize,
    highest: f64,
    lowest: f64,
}

/// The lots of one security.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    lots: VecDeque<Lot>,
}

impl Position {
    /// Shares; negative is short.
    pub(super) fn quantity(&self) -> f64 {
        self.lots.iter().map(|lot| lot.quantity).sum()
    }

    /// Average price of the shares, 0 without shares.
    pub(super) fn average_price(&self) -> f64 {
        let quantity = self.quantity();
        if quantity == 0.0 {
            return 0.0;
        }
        let cost: f64 = self.lots.iter().map(|lot| lot.quantity * lot.price).sum();
        cost / quantity
    }

    /// Updates the highest and lowest price since each lot was opened.
    pub(super) fn see(&mut self, price: f64) {
        for lot in &mut self.lots {
            lot.highest = lot.highest.max(price);
            lot.lowest = lot.lowest.min(price);
        }
    }
}

/// A position (or part of one) that was opened and closed again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trade {
    /// The security's index in the plan.
    pub(super) security: usize,
    /// Whether it was a purchase first.
    pub(super) long: bool,
    /// Shares, always positive.
    pub(super) quantity: f64,
    /// Trading day (index) of the entry.
    pub(super) entry_day: usize,
    /// Price at the entry.
    pub(super) entry_price: f64,
    /// Trading day (index) of the exit.
    pub(super) exit_day: usize,
    /// Price at the exit.
    pub(super) exit_price: f64,
    /// Before fees.
    pub(super) profit_loss: f64,
    /// Of both sides.
    pub(super) fees: f64,
    /// The greatest unrealised loss, zero or negative.
    pub(super) adverse: f64,
    /// The greatest unrealised profit, zero or positive.
    pub(super) favorable: f64,
}

impl Trade {
    /// After fees.
    pub(super) fn net(&self) -> f64 {
        self.profit_loss - self.fees
    }
}

/// The portfolio of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Portfolio {
    /// US dollars; negative is borrowed, without interest.
    pub(super) cash: f64,
    /// One for each security of the plan.
    pub(super) positions: Vec<Position>,
    /// In the order of their exits.
    pub(super) trades: Vec<Trade>,
    /// Paid so far.
    pub(super) fees: f64,
    /// Value of all fills so far.
    pub(super) volume: f64,
}

impl Portfolio {
    /// A portfolio without positions.
    pub(super) fn new(cash: f64, securities: usize) -> Self {
        Self {
            cash,
            positions: vec![Position::default(); securities],
            trades: Vec::new(),
            fees: 0.0,
            volume: 0.0,
        }
    }

    /// Shares of a security; negative is short.
    pub(super) fn quantity(&self, security: usize) -> f64 {
        self.positions.get(security).map_or(0.0, Position::quantity)
    }

    /// Books a fill: first in, first out against shares of the other side, the rest as a new lot.
    pub(super) fn fill(
        &mut self,
        security: usize,
        day: usize,
        quantity: f64,
        price: f64,
        fee: f64,
    ) {
        let Some(position) = self.positions.get_mut(security) else {
            return;
        };
        self.cash -= quantity * price + fee;
        self.fees += fee;
        self.volume += quantity.abs() * price;
        let fee_per_share = fee / quantity.abs();
        position.see(price);
        let mut left = quantity;
        while let Some(lot) = position.lots.front_mut() {
            if left == 0.0 || lot.quantity.signum() == left.signum() {
                break;
            }
            let closed = left.abs().min(lot.quantity.abs());
            let long = lot.quantity > 0.0;
            let per_share = |to: f64| if long { to - lot.price } else { lot.price - to };
            let (best, worst) = if long {
                (lot.highest, lot.lowest)
            } else {
                (lot.lowest, lot.highest)
            };
            self.trades.push(Trade {
                security,
                long,
                quantity: closed,
                entry_day: lot.day,
                entry_price: lot.price,
                exit_day: day,
                exit_price: price,
                profit_loss: closed * per_share(price),
                fees: closed * (lot.fee_per_share + fee_per_share),
                adverse: closed * per_share(worst).min(0.0),
                favorable: closed * per_share(best).max(0.0),
            });
            lot.quantity -= closed * lot.quantity.signum();
            left -= closed * left.signum();
            if lot.quantity == 0.0 {
                position.lots.pop_front();
            }
        }
        if left != 0.0 {
            position.lots.push_back(Lot {
                quantity: left,
                price,
                fee_per_share,
                day,
                highest: price,
                lowest: price,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_sale_through_zero_closes_the_long_and_opens_a_short() {
        let mut books = Portfolio::new(10_000.0, 1);
        books.fill(0, 1, 10.0, 100.0, 1.0);
        books.positions[0].see(120.0);
        books.positions[0].see(90.0);
        books.fill(0, 5, -30.0, 110.0, 3.0);
        assert_eq!(books.quantity(0), -20.0);
        assert_eq!(books.cash, 10_000.0 - 1_000.0 - 1.0 + 3_300.0 - 3.0);
        let trade = &books.trades[0];
        assert_eq!((trade.quantity, trade.profit_loss), (10.0, 100.0));
        // Its own fee, and a third of that of the sale, which closed a third of its shares.
        assert!((trade.fees - 2.0).abs() < 1e-12);
        assert_eq!((trade.adverse, trade.favorable), (-100.0, 200.0));
        books.fill(0, 9, 20.0, 100.0, 2.0);
        let trade = &books.trades[1];
        assert!(!trade.long);
        assert_eq!(trade.profit_loss, 200.0);
        assert_eq!(books.quantity(0), 0.0);
        let net: f64 = books.trades.iter().map(Trade::net).sum();
        assert!((books.cash - 10_000.0 - net).abs() < 1e-9);
    }
}
