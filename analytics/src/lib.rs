//! From sealed spool segments to Parquet, roll-ups and findings.

pub mod alerts;
pub mod anomaly;
pub mod audit;
pub mod books;
pub mod bundle;
pub mod calendar;
pub mod claim;
pub mod collect;
pub mod columns;
pub mod compaction;
pub mod completeness;
pub mod cube;
pub mod finding;
pub mod fold;
pub mod forecast;
pub mod generation;
pub mod held;
pub mod import;
pub mod merge;
pub mod names;
pub mod objective;
pub mod parquet_file;
pub mod part;
pub mod quota;
pub mod recent;
mod reckoned;
pub mod records;
pub mod retention;
pub mod rollup;
pub mod sheet;
pub mod store;
pub mod table;
pub mod view;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod traffic;
