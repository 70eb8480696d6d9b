# SendingDomain mail/shop: shop.example, 1 of 5 records verified

variable "zone" {
  type        = string
  default     = "shop.example."
  description = "The zone that holds the records, with the last dot."
}

# DKIM: Verified
resource "dns_txt_record_set" "dkim_pr_7f3a" {
  zone = var.zone
  name = trimsuffix("pr-7f3a._domainkey.shop.example", format(".%s", trimsuffix(var.zone, ".")))
  txt  = ["v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxIDAQAB"]
  ttl  = 3600
}

# DKIM: Unknown
# DNS gave no answer within 5 s; check the resolver
resource "dns_txt_record_set" "dkim_pr_9b21" {
  zone = var.zone
  name = trimsuffix("pr-9b21._domainkey.shop.example", format(".%s", trimsuffix(var.zone, ".")))
  txt  = ["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
  ttl  = 3600
}

# SPF: Conflict
# keep one SPF record
# replaces what is published: v=spf1 -all\u{a}v=spf1 mx -all
resource "dns_txt_record_set" "spf" {
  zone = var.zone
  name = trimsuffix("bounce.shop.example", format(".%s", trimsuffix(var.zone, ".")))
  txt  = ["v=spf1 ip4:203.0.113.10 -all"]
  ttl  = 3600
}

# DMARC: Missing
# publish this record
resource "dns_txt_record_set" "dmarc" {
  zone = var.zone
  name = trimsuffix("_dmarc.shop.example", format(".%s", trimsuffix(var.zone, ".")))
  txt  = ["v=DMARC1; p=none"]
  ttl  = 3600
}

# ReturnPath: Mismatch
# replace the null MX
# replaces what is published: 0 .
resource "dns_mx_record_set" "return_path" {
  zone = var.zone
  name = trimsuffix("bounce.shop.example", format(".%s", trimsuffix(var.zone, ".")))
  mx {
    preference = 10
    exchange   = "mail.shop.example."
  }
  ttl  = 3600
}
