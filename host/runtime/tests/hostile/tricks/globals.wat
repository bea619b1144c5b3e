;; trick: three hundred thousand globals, which the host keeps for each instance
;; at: load
;; expect: which exceeds the configured maximum of 4194304 bytes

<<300000 (global i64 (i64.const %))
>>
