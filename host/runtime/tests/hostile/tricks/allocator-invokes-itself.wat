;; trick: an allocator that invokes the action again, and once more when that allocates
;; at: invoke
;; expect: it recurses too deeply

(func $invoke (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
(func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (drop (call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (i32.const 65536))
