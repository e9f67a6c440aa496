//! From sealed spool segments to Parquet, roll-ups and findings.

pub mod view;
