;; trick: a pattern of as many states as are allowed, and a caller's long text
;; at: invoke
;; expect: bytes of text; by a schema with patterns like these,
;; input: {"source":"<<200000 a>>"}
;; action: act {"properties":{"source":{"pattern":"([!-~][ -~]{300}[^ -~]|[ -~]{300}[^ -~][!-~])"}}}
