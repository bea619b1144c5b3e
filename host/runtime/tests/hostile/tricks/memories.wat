;; trick: more memories than a plugin may have
;; at: load
;; expect: memories

<<20 (memory $m% 1)
>>
