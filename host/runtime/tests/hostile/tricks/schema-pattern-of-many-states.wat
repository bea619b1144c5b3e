;; trick: a pattern of which thousands of states stay possible at each character of a printable text
;; at: load
;; expect: a pattern's program may have 65536 bytes
;; action: act {"properties":{"source":{"pattern":"([!-~][ -~]{3000}[^ -~]|[ -~]{3000}[^ -~][!-~])"}}}
