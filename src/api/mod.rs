//! The API client: signs, sends once, classifies. No retry and no pacing.
