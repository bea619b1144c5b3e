;; trick: the environment of the host; it returns how many variables there are
;; at: fine
;; expect: 0

(import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $environment (i32.const 2048))
  (call $digit (i32.load (i32.const 2052))))
