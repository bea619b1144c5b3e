;; trick: checks of an input that take long, of two plugins, on every worker of the host at once
;; at: invoke
;; expect: the input does not fit at `/source`
;; limits: concurrency = 2
;; at-once: 2
;; at-once-plugins: 2
;; input: {"source":"<<5000 a>>"}
;; action: act {"properties":{"source":{"pattern":"([!-~][ -~]{300}[^ -~]|[ -~]{300}[^ -~][!-~])"}}}
