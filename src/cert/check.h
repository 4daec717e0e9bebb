// SPDX-License-Identifier: MIT
// Is a certificate declaration good, and what does it say? Pure; any thread.
#pragma once
#include "model/declaration.h"

// Key fits, chain in order, dates, names, key size. Fills decl->facts and, if none is declared,
// decl->names from the SANs (views in memory of the declaration, certificate_set_facts() in model).
// chain_file and key_file are read first. Problems name the field. 0, or the err of `problems`. An
// expired certificate is refused, one that is not valid yet is not.
int cert_check(struct declaration *declaration, struct problems *problems) WARN_UNUSED;

// A PEM bundle of CAs (client_auth.ca, tls.ca): 0 and the number of certificates, or a negative err with
// a problem at `pointer`.
int cert_check_ca(struct str pem, const char *pointer, unsigned *count,
                  struct problems *problems) WARN_UNUSED;
