;; trick: exports that are not part of the contract; they are never called
;; at: fine
;; expect: {}
;; world: export init: func();
;; world: export acme:things/store@1.0.0;
;; wit: package acme:things@1.0.0; interface store { resource item { constructor(); } }

(import "[export]acme:things/store@1.0.0" "[resource-new]item" (func $new (param i32) (result i32)))
(func (export "init") unreachable)
(func (export "acme:things/store@1.0.0#[constructor]item") (result i32) unreachable)
(func (export "acme:things/store@1.0.0#[dtor]item") (param i32) unreachable)
