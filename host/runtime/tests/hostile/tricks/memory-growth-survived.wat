;; trick: memory until there is no more, and then on as if nothing had been; what it has is its own
;; at: fine
;; expect: {}

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32) (param $input i32) (param $input_len i32) (result i32)
  (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  (call $ok (local.get $input) (local.get $input_len)))
