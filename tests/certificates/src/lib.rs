//! Certificates for tests, made anew each time, without a C compiler and without OpenSSL.

#![forbid(unsafe_code)]

use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer},
    pkcs8::{EncodePrivateKey, LineEnding},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

/// Who signs certificates.
pub struct Authority {
    params: CertificateParams,
    key: Key,
    certificate: String,
}

/// A certificate and its private key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and the CA's after it.
    pub certificates: String,
    /// The key, as PKCS#8.
    pub key: String,
}

impl Authority {
    /// A CA of this name.
    pub fn new(name: &str) -> Self {
        let key = Key::random();
        let mut params = params(name, &[], 2000, 3000);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a CA can be made").pem();
        Self { params, key, certificate }
    }

    /// The CA's own certificate, in PEM: who has it trusts what the CA signs.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// Signs a certificate for somebody called `name`, who lives at these hosts: good for a server and for a client.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Identity {
        self.issue_until(name, hosts, 3000)
    }

    /// The same, but it has expired long ago.
    pub fn issue_expired(&self, name: &str, hosts: &[&str]) -> Identity {
        self.issue_until(name, hosts, 2001)
    }

    fn issue_until(&self, name: &str, hosts: &[&str], year: i32) -> Identity {
        let key = Key::random();
        let mut params = params(name, hosts, 2000, year);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).expect("it can be signed");
        Identity { certificates: format!("{}{}", certificate.pem(), self.certificate), key: key.pem() }
    }
}

impl Identity {
    /// Key and certificates one after the other, as Kafka wants a keystore in PEM.
    pub fn keystore(&self) -> String {
        format!("{}{}", self.key, self.certificates)
    }
}

fn params(name: &str, hosts: &[&str], from_year: i32, until_year: i32) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("hosts have names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(from_year, 1, 1);
    params.not_after = date_time_ymd(until_year, 1, 1);
    params.serial_number = Some(SerialNumber::from_slice(&random::<16>()));
    params.key_identifier_method = KeyIdMethod::PreSpecified(name.as_bytes().to_vec());
    params
}

/// A key on the curve that everybody knows.
struct Key {
    secret: SigningKey,
    public: Vec<u8>,
}

impl Key {
    fn random() -> Self {
        // A handful of the numbers with so many bits are none of the curve's.
        let secret = std::iter::repeat_with(random::<32>).find_map(|bytes| SigningKey::from_slice(&bytes).ok());
        let secret = secret.expect("it goes on until there is one");
        let public = secret.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        Self { secret, public }
    }

    fn pem(&self) -> String {
        self.secret.to_pkcs8_pem(LineEnding::LF).expect("a key can be written").to_string()
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = self.secret.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
