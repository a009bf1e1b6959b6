//! The conformance suite of durable hosts, on the store in memory.

use dalsegno_durable::{MemoryStore, key::Secret};
use dalsegno_testkit::conformance::durable::{StoreFixture, vectors};

dalsegno_testkit::durable_conformance!(StoreFixture::new(MemoryStore::new(Secret::new([7; 32]))).await);

#[test]
fn hash_vectors_are_fixed() {
    vectors::hash_vectors_are_fixed();
}

#[test]
fn hash_does_not_depend_on_the_order_of_fields() {
    vectors::hash_does_not_depend_on_the_order_of_fields();
}

mod sagas {
    use super::*;

    dalsegno_testkit::saga_conformance!(MemoryStore::new(Secret::new([7; 32])));
}
