;; trick: a schema whose parts are evaluated again at each level, nearly three times as often with each: years for the input {"a":1}
;; at: load
;; expect: it stands for more than 20000 schemas
;; input: {"a":1}
;; action: act <<50 {"if":>>{}<<50 ,"unevaluatedProperties":{}}>>
