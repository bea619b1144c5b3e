//! placeholder
pub mod adapter;
pub mod contract;
mod calls; mod capabilities; mod instance; mod limits; mod meter; mod services; mod text; mod wasi;
