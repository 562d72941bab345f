//! Objects, traits and the machinery every part of Longshore shares.
