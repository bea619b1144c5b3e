;; trick: a million globals, which the host keeps for each instance
;; at: load
;; expect: globals

<<300000 (global i64 (i64.const %))
>>
