//! weir-redis-link
