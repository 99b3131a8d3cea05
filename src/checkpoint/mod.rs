//! Durable truth: what has been intended and what came of it.
