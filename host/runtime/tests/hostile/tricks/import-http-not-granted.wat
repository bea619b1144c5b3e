;; trick: requests to wherever it likes, without a grant
;; at: load
;; expect: its manifest has no [[http]]
;; wit: package wasi:http@0.2.0; interface types { resource fields { constructor(); } }

(import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
