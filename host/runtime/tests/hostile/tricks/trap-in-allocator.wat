;; trick: an allocator that fails while the host hands in the arguments
;; at: invoke
;; expect: wasm `unreachable` instruction executed

(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  unreachable)
