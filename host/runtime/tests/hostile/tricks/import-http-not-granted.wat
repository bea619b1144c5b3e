;; trick: requests to wherever it likes, without a grant
;; at: load
;; expect: its manifest has no [[http]]

(import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
