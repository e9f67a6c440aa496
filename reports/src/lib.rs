//! weir-reports
