//! A local server of the API, for rehearsal and tests: it must be able to say no.
